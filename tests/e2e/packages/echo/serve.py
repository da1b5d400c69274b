"""Answers every request, and /health only while the database does."""

import http.server
import os
import subprocess


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = True
        if self.path == "/health":
            url = open(os.environ["CREDENTIALS_DIRECTORY"] + "/database-url").read().strip()
            environment = dict(os.environ, PGDATABASE=url, PGCONNECT_TIMEOUT="2")
            good = subprocess.call(["psql", "-qAtwXc", "SELECT 1"], env=environment) == 0
        self.send_response(200 if good else 503)
        self.end_headers()
        self.wfile.write(b"echo\n")


http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
