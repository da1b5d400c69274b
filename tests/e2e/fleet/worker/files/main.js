const { readFileSync } = require("node:fs");

const config = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { host, username } = new URL(config.database);

console.log(`${config.node}: ${config.batch} jobs at a time, results go to ${host} as ${username}`);
setInterval(() => {}, 60_000);
