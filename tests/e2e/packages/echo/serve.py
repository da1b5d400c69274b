"""Answers every request, and /health only while the database does."""

import http.server
import os
import subprocess
import urllib.parse

url = urllib.parse.urlsplit(os.environ["DATABASE_URL"])
with open(os.environ["CREDENTIALS_DIRECTORY"] + "/database-password") as file:
    password = file.read().strip()
# psql asks for its user's name, which a user that systemd makes up has not, unless it is told another one.
database = dict(
    os.environ,
    PGHOST=url.hostname,
    PGPORT=str(url.port),
    PGUSER=url.username,
    PGDATABASE=url.path.lstrip("/"),
    PGPASSWORD=password,
    PGCONNECT_TIMEOUT="2",
)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = True
        if self.path == "/health":
            good = subprocess.call(["psql", "-qAtwXc", "SELECT 1"], env=database) == 0
        self.send_response(200 if good else 503)
        self.end_headers()
        self.wfile.write(b"echo\n")


http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
