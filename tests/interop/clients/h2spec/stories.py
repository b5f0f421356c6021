"""summerwind/h2spec, with prior knowledge: every section of the specifications of HTTP/2 and HPACK is a story."""
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

from story import STORIES, tell

# Its connection preface that is none is a line of HTTP/1, which this port speaks, too: it is answered in that, with 400, and closed.
PASSED_OVER = {("3.5. HTTP/2 Connection Preface", "Sends invalid connection preface")}


def report():
    """[(section, case, what is wrong or None)]"""
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "report.xml")
        host, port = os.environ["HTTP_URL"].removeprefix("http://").split(":")
        subprocess.run([os.environ["H2SPEC"], "--strict", "-h", host, "-p", port, "-P", "/health", "-o", "3", "-j", path], stdout=subprocess.DEVNULL, timeout=120)
        suites = xml.etree.ElementTree.parse(path).getroot().iter("testsuite")
        return [(f"{suite.get('id')}. {suite.get('name').split('. ')[-1]}", case.get("classname"), next((child.text or child.tag for child in case), None))
                for suite in suites for case in suite.iter("testcase")]


def the_specification():
    found = report()
    assert len(found) > 140, found
    wrong = [one for one in found if one[2] and one[:2] not in PASSED_OVER]
    assert not wrong, wrong


STORIES["the-specification"] = the_specification
tell()
sys.exit(0)
