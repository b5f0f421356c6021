"""The clients whose test suites tests/suites/run knows: how each is prepared and run, and how its report is read."""
import glob
import json
import os
import shutil
import subprocess
import xml.etree.ElementTree

PYTHON = "/usr/bin/python3"


class Place:
    """Where a suite's checkout, tools and reports are."""

    def __init__(self, checkouts, name, against):
        self.checkouts = checkouts
        self.checkout = os.path.join(checkouts, name)
        self.tools = os.path.join(checkouts, ".tools", name)
        self.reports = os.path.join(checkouts, ".reports", f"{name}-{against}")


def report_of_junit(*paths):
    """{test: outcome} of reports in JUnit's format."""
    found = {}
    for path in paths:
        for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
            name = ".".join(part for part in (case.get("classname"), case.get("name")) if part)
            children = {child.tag for child in case}
            outcome = "failed" if children & {"failure", "error"} else "skipped" if "skipped" in children else "passed"
            # A test that is tried again counts by its last try; two tests of one name by the worse of them.
            found[name] = outcome if name not in found or outcome == "failed" else found[name]
    return found


class Suite:
    """`prepare`: commands that install tools, once; `setup`: what prepares the broker; `command`: the suite. {tools}, {checkout}, {reports}, {checkouts} and {control} stand for themselves."""

    def __init__(self, prepare, command, report, limit_s=900, needs=(), environment=None, only=None, patch=None, setup=None):
        self.prepare, self.command, self.report, self.limit_s, self.needs = prepare, command, report, limit_s, needs
        self.environment, self.only, self.patch, self.setup = environment or {}, only, patch, setup

    def filled(self, words, place, **more):
        return [word.format(tools=place.tools, checkout=place.checkout, reports=place.reports, checkouts=place.checkouts, **more) for word in words]

    def prepared(self, place):
        """Installs what is missing. Answers whether the suite can run."""
        mark = os.path.join(place.tools, "done")
        if os.path.exists(mark):
            return True
        os.makedirs(place.tools, exist_ok=True)
        with open(os.path.join(place.tools, "log"), "w") as log:
            for need in self.needs:
                if not shutil.which(need):
                    log.write(f"{need} is not installed\n")
                    return False
            if self.patch:
                self.patch(place)
            for words in self.prepare:
                if subprocess.run(self.filled(words, place), cwd=place.checkout, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT).returncode:
                    return False
        with open(mark, "w"):
            return True

    def run(self, place, environment, log, only):
        """{test: outcome}."""
        words = self.filled(self.command, place, control=environment["RABBITMQCTL"], node=environment["NODE"])
        if only and self.only:
            words += [word.format(only) for word in self.only]
        more = {key: self.filled([value], place, control=environment["RABBITMQCTL"])[0] for key, value in self.environment.items()}
        if self.setup:
            subprocess.run(self.filled(self.setup, place), cwd=place.checkout, env={**environment, **more}, stdin=subprocess.DEVNULL, stdout=log,
                           stderr=subprocess.STDOUT)
        log.write(" ".join(words) + "\n")
        log.flush()
        try:
            subprocess.run(words, cwd=place.checkout, env={**environment, **more}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                           timeout=self.limit_s)
        except subprocess.TimeoutExpired:
            log.write(f"\nno end after {self.limit_s} s\n")
        return self.report(place)


def junit_at(*patterns):
    def report(place):
        paths = [path for pattern in patterns for path in glob.glob(pattern.format(reports=place.reports, checkout=place.checkout), recursive=True)]
        return report_of_junit(*paths)
    return report


def report_of_go(place):
    found = {}
    with open(os.path.join(place.reports, "log")) as log:
        for line in log:
            event = json.loads(line) if line.startswith("{") else {}
            outcome = {"pass": "passed", "fail": "failed", "skip": "skipped"}.get(event.get("Action"))
            if outcome and "Test" in event:
                found[event["Test"]] = outcome
    return found


def report_of_rspec(place):
    found = {}
    with open(os.path.join(place.reports, "report.json")) as file:
        for example in json.load(file)["examples"]:
            found[f"{example['file_path']}: {example['full_description']}"] = example["status"].replace("pending", "skipped")
    return found


def venv(*packages):
    return [[PYTHON, "-m", "venv", "{tools}/env"], ["{tools}/env/bin/pip", "install", "-q", *packages]]


def without_bundler(place):
    """Debian's rspec and a checkout of amq-protocol stand in for what Bundler would fetch."""
    with open(os.path.join(place.tools, "bundler.rb"), "w") as file:
        file.write('require "amq/protocol/client"\nmodule Bundler\n  def self.require(*)\n  end\nend\n')


MAVEN = ["mvn", "-q", "-B", "-Ddeps.dir={checkout}/deps"]
PYTEST = ["{tools}/env/bin/python", "-B", "-m", "pytest", "-p", "no:cacheprovider", "--junitxml={reports}/report.xml"]
JUNIT = junit_at("{reports}/report.xml")

SUITES = {
    "pika": Suite(
        venv("pytest<9", "pytest-timeout", "tornado", "twisted", "gevent"), [*PYTEST, "--timeout=60", "tests/acceptance"], JUNIT, only=["-k", "{}"]),
    "amqp091-go": Suite(
        [["go", "mod", "download"], ["go", "vet", "-tags", "integration", "."]],
        ["go", "test", "-tags", "integration", "-json", "-timeout", "10m", "."], report_of_go, needs=["go"], only=["-run", "{}"],
        environment={"AMQP_URL": "amqp://guest:guest@127.0.0.1:5672/", "RABBITMQ_RABBITMQCTL_PATH": "{control}", "GOFLAGS": "-mod=mod"}),
    "amqplib": Suite(
        [["npm", "install", "--silent", "--no-save", "--ignore-scripts", "claire@0.4.1"]],
        ["node", "--test", "--test-timeout=20000", "--test-concurrency=1", "--test-reporter=junit", "--test-reporter-destination={reports}/report.xml"], JUNIT,
        needs=["node", "npm"], only=["--test-name-pattern={}"]),
    "py-amqp": Suite(
        venv("pytest<9", "pytest-rerunfailures", "vine"), [*PYTEST, "-E", "rabbitmq", "t/integration"], JUNIT, only=["-k", "{}"]),
    "kombu": Suite(
        venv("pytest<9", "pytest-rerunfailures", "pytest-freezer", "vine", "amqp", "tzdata", "packaging", "typing_extensions"),
        [*PYTEST, "-E", "py-amqp", "t/integration/test_py_amqp.py"], JUNIT, only=["-k", "{}"]),
    "rabbitmq-c": Suite(
        [["cmake", "-S", ".", "-B", "{tools}/build", "-DRUN_SYSTEM_TESTS=ON", "-DBUILD_TESTING=ON", "-DENABLE_SSL_SUPPORT=OFF", "-DBUILD_EXAMPLES=OFF"],
         ["cmake", "--build", "{tools}/build"]],
        ["ctest", "--test-dir", "{tools}/build", "--output-junit", "{reports}/report.xml"], JUNIT, needs=["cmake"], only=["-R", "{}"]),
    # Maven's own runner looks for more of itself in the network when it runs: JUnit's does not.
    "rabbitmq-java-client": Suite(
        [[*MAVEN, "test-compile", "dependency:build-classpath", "-Dmdep.outputFile={tools}/classpath"],
         [*MAVEN, "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy", "-Dartifact=org.junit.platform:junit-platform-console-standalone:1.11.0",
          "-DoutputDirectory={tools}"]],
        ["sh", "-c", "exec java -Drabbitmqctl.bin={control} -Dtest-broker.A.nodename={node} -Dtest-broker.A.node_port=5672 -cp "
         "{tools}/junit-platform-console-standalone-1.11.0.jar:target/classes:target/test-classes:$(cat {tools}/classpath) "
         "org.junit.platform.console.ConsoleLauncher execute --config=junit.jupiter.execution.timeout.default=120s --reports-dir={reports} --details=tree --disable-ansi-colors "
         "--select-class=com.rabbitmq.client.test.ClientTestSuite --select-class=com.rabbitmq.client.test.functional.FunctionalTestSuite "
         "--select-class=com.rabbitmq.client.test.server.ServerTestSuite"],
        junit_at("{reports}/TEST-*.xml"), limit_s=2400, needs=["mvn", "java"]),
    "bunny": Suite(
        [["ruby", "-e", "require 'rspec'; require 'sorted_set'"]],
        ["rspec", "--format", "json", "--out", "{reports}/report.json", "--format", "documentation",
         # These need a proxy that breaks connections, and the HTTP API.
         "--exclude-pattern", "**/{{connection_recovery,toxiproxy}}_spec.rb", "spec/higher_level_api", "spec/lower_level_api", "spec/issues"],
        report_of_rspec, limit_s=1500, needs=["ruby", "rspec"], patch=without_bundler, setup=["sh", "bin/ci/before_build.sh"], only=["-e", "{}"],
        environment={"RUBYLIB": "{tools}:{checkout}/lib:{checkouts}/amq-protocol/lib", "CI": "true",
                     "BUNNY_RABBITMQCTL": "{control}", "BUNNY_RABBITMQ_PLUGINS": "true"}),
}

