"""Certificates for tests, and the authority that they come from."""
import os
import ssl
import subprocess

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"


class Authority:
    """Certificates in a directory: ca.pem, and NAME.pem with NAME.key."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=authority",
                     "-keyout", "ca.key", "-out", "ca.pem")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def certify(self, name, subject="localhost", names=NAMES, days=30):
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}", "-addext", names,
                     "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-copy_extensions", "copy",
                     "-out", f"{name}.pem")

    def self_signed(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext", NAMES,
                     "-keyout", f"{name}.key", "-out", f"{name}.pem")

    def file(self, name):
        return os.path.join(self.directory, name)

    def context(self, client=None):
        made = ssl.create_default_context(cafile=self.file("ca.pem"))
        if client:
            made.load_cert_chain(self.file(f"{client}.pem"), self.file(f"{client}.key"))
        return made

    def server_context(self, name):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.file(f"{name}.pem"), self.file(f"{name}.key"))
        return made
