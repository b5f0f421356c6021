"""godwit ctl: rabbitmqctl's verbs, words and exit codes."""
import json
import time

import pika
import pytest

from support.broker import Godwit


def ctl(godwit, *arguments, code=0, **more):
    result = godwit("ctl", *arguments, **more)
    assert result.code == code, (result.code, result.out, result.err)
    return result.out.decode()


def test_table_json_csv(godwit, queue):
    godwit("publish", queue, "1", "2")
    text = ctl(godwit, "list_queues", "name", "messages")
    assert text.splitlines()[:3] == ["Timeout: 60.0 seconds ...", "Listing queues for vhost / ...", "name\tmessages"]
    assert f"{queue}\t2" in text.splitlines()
    assert ctl(godwit, "-q", "list_queues").splitlines()[0] == "name\tmessages"
    assert f"{queue}\t2" == [line for line in ctl(godwit, "-s", "list_queues").splitlines() if queue in line][0]
    rows = json.loads(ctl(godwit, "list_queues", "--formatter", "json", "name", "messages_ready", "consumers", "durable", "arguments"))
    assert {"name": queue, "messages_ready": 2, "consumers": 0, "durable": True, "arguments": []} in rows
    assert f'"{queue}","2"' in ctl(godwit, "list_queues", "--formatter", "csv").splitlines()
    assert "│" in ctl(godwit, "list_queues", "--formatter", "pretty_table")


def test_the_list_itself_is_in_no_list(godwit):
    assert "amq.gen" not in ctl(godwit, "list_queues") + ctl(godwit, "list_bindings")


def test_wrong_command_lines(godwit):
    for arguments in (("list_queues", "nonsense"), ("nonsense",), ("purge_queue",), ("purge_queue", "a", "b")):
        assert godwit("ctl", *arguments).code == 64, arguments
    assert "Did you mean 'list_queues'?" in godwit("ctl", "list_queus").err
    assert godwit("ctl").code == 2


def test_purge_and_delete(godwit, queue):
    godwit("publish", queue, "1", "2")
    assert ctl(godwit, "purge_queue", queue) == f"Purging queue '{queue}' in vhost '/' ...\n"
    godwit("publish", queue, "1")
    result = godwit("ctl", "delete_queue", queue, "--if-empty")
    assert result.code != 0 and "not empty" in result.err.lower() or "in use" in result.err
    assert "Queue was successfully deleted with 1 ready messages" in ctl(godwit, "delete_queue", queue)
    assert ctl(godwit, "delete_queue", queue, code=64).startswith("Deleting queue")
    assert ctl(godwit, "purge_queue", queue, code=69)


def test_vhosts(godwit):
    ctl(godwit, "add_vhost", "other", "--description", "for tests", "--tags", "a,b", "--default-queue-type", "quorum")
    ctl(godwit, "add_vhost", "other")
    rows = {row["name"]: row for row in json.loads(ctl(godwit, "list_vhosts", "--formatter", "json", "name", "description", "tags", "default_queue_type", "tracing"))}
    assert rows["other"] == {"name": "other", "description": "for tests", "tags": ["a", "b"], "default_queue_type": "quorum", "tracing": False}
    assert "Trace enabled for vhost other" in ctl(godwit, "trace_on", "-p", "other")
    assert "other\ttrue" in ctl(godwit, "list_vhosts", "name", "tracing")
    ctl(godwit, "trace_off", "-p", "other")
    assert "amq.topic\ttopic" in ctl(godwit, "-p", "other", "list_exchanges")
    ctl(godwit, "delete_vhost", "other")
    ctl(godwit, "delete_vhost", "other", code=65)
    assert "other" not in ctl(godwit, "-q", "list_vhosts")


def test_status_ping_version(godwit):
    assert json.loads(ctl(godwit, "status", "--formatter", "json"))["product_name"] == "Godwit"
    assert "Ping succeeded" in ctl(godwit, "ping")
    assert ctl(godwit, "-q", "check_running") == ""
    assert ctl(godwit, "version")[0].isdigit()


def test_hashed_passwords_have_salt(godwit):
    first, second = (ctl(godwit, "hash_password", "secret").strip() for _ in range(2))
    assert len(first) == 48 and first != second
    assert len(ctl(godwit, "hash_password", stdin=b"secret\n").strip()) == 48


def test_node_is_passed_over_with_a_note(godwit):
    assert "passed over" in godwit("ctl", "-n", "rabbit@localhost", "list_vhosts").err
    assert godwit("ctl", "-q", "-n", "rabbit@localhost", "list_vhosts").err == ""


def test_help_and_completion(godwit):
    assert "Columns: name, messages" in ctl(godwit, "help", "list_queues")
    assert "list_queues" in ctl(godwit, "help")
    for shell in ("bash", "zsh", "fish"):
        assert b"list_queues" in godwit("completion", shell).out


def test_no_broker(bare):
    result = bare("ctl", "list_queues", uri="amqp://guest:guest@127.0.0.1:1/")
    assert result.code == 69 and "refused" in result.err


def test_users(godwit):
    ctl(godwit, "add_user", "bob", "secret")
    result = godwit("ctl", "add_user", "bob", "secret")
    assert (result.code, result.err) == (70, 'Error:\nUser "bob" already exists\n')
    ctl(godwit, "set_user_tags", "bob", "monitoring", "policymaker")
    assert ctl(godwit, "-q", "list_users") == "user\ttags\nbob\t[monitoring, policymaker]\nguest\t[administrator]\n"
    assert "Success" in ctl(godwit, "authenticate_user", "bob", "secret")
    ctl(godwit, "authenticate_user", "bob", "wrong", code=65)
    ctl(godwit, "change_password", "bob", stdin=b"other\n")
    assert "Success" in ctl(godwit, "authenticate_user", "bob", "other")
    ctl(godwit, "clear_password", "bob")
    ctl(godwit, "authenticate_user", "bob", "other", code=65)
    ctl(godwit, "set_user_limits", "bob", '{"max-connections": 5, "max-channels": 7}')
    assert ctl(godwit, "-q", "list_user_limits", "--user", "bob") == '{"max-channels":7,"max-connections":5}\n'
    ctl(godwit, "clear_user_limits", "bob", "all")
    assert ctl(godwit, "-q", "list_user_limits", "--global") == ""
    ctl(godwit, "set_user_limits", "bob", '{"nonsense": 5}', code=69)
    ctl(godwit, "delete_user", "bob")
    for verb in (["delete_user", "bob"], ["change_password", "bob", "x"], ["set_user_tags", "bob"]):
        ctl(godwit, *verb, code=67)


def test_only_administrators_change_things(godwit, bare):
    ctl(godwit, "add_user", "watcher", "secret")
    ctl(godwit, "set_permissions", "watcher", "", ".*", "")
    uri = godwit.uri.replace("guest:guest", "watcher:secret")
    result = bare("ctl", "list_queues", uri=uri)
    assert result.code == 69 and "needs the tag" in result.err
    ctl(godwit, "set_user_tags", "watcher", "monitoring")
    assert bare("ctl", "list_queues", uri=uri).code == 0
    for verb in (["add_user", "x", "y"], ["list_users"], ["export_definitions", "-"], ["delete_vhost", "/"]):
        assert bare("ctl", *verb, uri=uri).code == 69, verb
    ctl(godwit, "delete_user", "watcher")


def test_permissions(godwit):
    ctl(godwit, "add_user", "ann", "secret")
    ctl(godwit, "set_permissions", "ann", "^conf", ".*", "")
    assert "ann\t^conf\t.*\t" in ctl(godwit, "list_permissions").splitlines()
    assert ctl(godwit, "-q", "list_user_permissions", "ann") == "vhost\tconfigure\twrite\tread\n/\t^conf\t.*\t\n"
    ctl(godwit, "set_topic_permissions", "ann", "amq.topic", "^x", "^y")
    assert ctl(godwit, "-q", "list_topic_permissions") == "user\texchange\twrite\tread\nann\tamq.topic\t^x\t^y\n"
    ctl(godwit, "clear_topic_permissions", "ann")
    ctl(godwit, "clear_permissions", "ann")
    assert ctl(godwit, "-q", "list_user_permissions", "ann") == ""
    ctl(godwit, "set_permissions", "ann", "(", "", "", code=69)
    ctl(godwit, "set_permissions", "nobody", "", "", "", code=67)
    ctl(godwit, "set_permissions", "-p", "nowhere", "ann", "", "", "", code=65)
    ctl(godwit, "delete_user", "ann")


def test_policies_and_parameters(godwit):
    ctl(godwit, "set_policy", "long", "^q", '{"max-length": 10}', "--priority", "3", "--apply-to", "queues")
    assert ctl(godwit, "-q", "list_policies").splitlines()[1:] == ['/\tlong\t^q\tqueues\t{"max-length":10}\t3']
    assert json.loads(ctl(godwit, "list_policies", "--formatter", "json"))[0]["definition"] == '{"max-length":10}'
    for definition in ('{"nonsense": 1}', "{}", "{bad", '{"max-length": "x"}'):
        ctl(godwit, "set_policy", "bad", "^q", definition, code=69)
    ctl(godwit, "set_policy", "--priority", "high", "bad", "^q", '{"max-length": 1}', code=64)
    ctl(godwit, "set_operator_policy", "limit", "^q", '{"max-length": 3}')
    assert "/\tlimit\t^q\tall\t{\"max-length\":3}\t0" in ctl(godwit, "list_operator_policies")
    assert "operator_policy\tlimit" in ctl(godwit, "list_parameters")
    ctl(godwit, "clear_operator_policy", "limit")
    ctl(godwit, "clear_policy", "long")
    ctl(godwit, "clear_policy", "long", code=69)
    ctl(godwit, "set_global_parameter", "note", '"text"')
    assert ctl(godwit, "-q", "list_global_parameters") == 'name\tvalue\nnote\t"text"\n'
    ctl(godwit, "clear_global_parameter", "note")
    ctl(godwit, "set_parameter", "shovel", "one", '{"a": [1]}')
    assert 'shovel\tone\t{"a":[1]}' in ctl(godwit, "list_parameters")
    ctl(godwit, "clear_parameter", "shovel", "one")
    ctl(godwit, "set_vhost_limits", '{"max-connections": 500}')
    assert ctl(godwit, "-q", "list_vhost_limits") == '{"max-connections":500}\n'
    ctl(godwit, "clear_vhost_limits")
    ctl(godwit, "clear_vhost_limits", code=69)


@pytest.fixture
def connection(broker):
    opened = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port, client_properties={"connection_name": "of a test"}))
    yield opened
    try:
        opened.close()
    except pika.exceptions.AMQPError:
        pass


def test_connections_channels_consumers(godwit, connection):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=7)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_consume(queue, lambda *message: None, consumer_tag="mine", arguments={"x-priority": 3})
    rows = json.loads(ctl(godwit, "list_connections", "--formatter", "json", "pid", "user", "vhost", "channels", "state", "peer_host", "client_properties"))
    mine, = rows   # the one that asks is not shown
    assert (mine["user"], mine["vhost"], mine["channels"], mine["state"], mine["peer_host"]) == ("guest", "/", 1, "running", "127.0.0.1")
    assert ["connection_name", "longstr", "of a test"] in mine["client_properties"]
    rows = json.loads(ctl(godwit, "list_channels", "--formatter", "json", "connection", "number", "confirm", "transactional", "consumer_count", "prefetch_count"))
    assert rows == [{"connection": mine["pid"], "number": 1, "confirm": True, "transactional": False, "consumer_count": 1, "prefetch_count": 7}]
    rows = json.loads(ctl(godwit, "list_consumers", "--formatter", "json"))
    assert [(row["queue_name"], row["consumer_tag"], row["ack_required"], row["prefetch_count"], row["arguments"]) for row in rows] == \
        [(queue, "mine", True, 7, [["x-priority", "signedint", 3]])]
    assert f"{queue}\t{mine['pid']}" in ctl(godwit, "list_queues", "name", "owner_pid").splitlines()
    ctl(godwit, "close_connection", "no such one", "reason", code=69)
    ctl(godwit, "close_connection", mine["pid"], "enough of it")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as caught:
        connection.process_data_events(5)
    assert (caught.value.reply_code, caught.value.reply_text) == (320, "CONNECTION_FORCED - enough of it")
    assert ctl(godwit, "-q", "list_connections") == ""


def test_close_all(godwit, connection):
    assert "Closed 0 connections" in ctl(godwit, "close_all_user_connections", "nobody", "bye")
    assert "Closed 1 connections" in ctl(godwit, "close_all_connections", "bye")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        connection.process_data_events(5)


def test_queues_say_which_policy_applies(godwit, queue):
    godwit("publish", queue, "1")
    ctl(godwit, "set_policy", "mine", f"^{queue}$", '{"max-length": 10, "message-ttl": 5000000}', "--apply-to", "queues")
    ctl(godwit, "set_operator_policy", "theirs", f"^{queue}$", '{"max-length": 3}', "--apply-to", "queues")
    rows = {row["name"]: row for row in json.loads(ctl(godwit, "list_queues", "--formatter", "json", "name", "policy", "operator_policy", "effective_policy_definition"))}
    assert rows[queue] == {"name": queue, "policy": "mine", "operator_policy": "theirs",
                           "effective_policy_definition": '{"max-length":3,"message-ttl":5000000}'}
    ctl(godwit, "clear_policy", "mine")
    ctl(godwit, "clear_operator_policy", "theirs")


def test_waiting_for_the_start(godwit, bare):
    assert "Ping succeeded" in ctl(godwit, "await_startup", "--timeout", "5")
    result = bare("ctl", "await_startup", "--timeout", "1", uri="amqp://guest:guest@127.0.0.1:1/")
    assert result.code == 75
    assert "no alarms" in ctl(godwit, "check_local_alarms")


def test_managers_see_their_own_virtual_hosts(godwit, bare):
    ctl(godwit, "add_user", "manager", "secret")
    ctl(godwit, "set_user_tags", "manager", "management")
    ctl(godwit, "set_permissions", "manager", "", ".*", "")
    ctl(godwit, "add_vhost", "closed")
    uri = godwit.uri.replace("guest:guest", "manager:secret")
    assert bare("ctl", "list_queues", uri=uri).code == 0
    for verb in (["-p", "closed", "list_queues"], ["list_connections"], ["status"], ["purge_queue", "x"]):
        assert bare("ctl", *verb, uri=uri).code == 69, verb
    ctl(godwit, "delete_vhost", "closed")
    ctl(godwit, "delete_user", "manager")


def test_a_blocked_broker_takes_requests(bare):
    with Godwit(options=["--disk-free-limit", "1000000G"]) as broker:
        uri = f"amqp://guest:guest@127.0.0.1:{broker.port}/"
        deadline = time.monotonic() + 10
        while bare("ctl", "check_local_alarms", uri=uri).code == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        result = bare("ctl", "check_local_alarms", uri=uri)
        assert result.code == 69 and "low on disk" in result.err
        made = bare("ctl", "add_vhost", "made", uri=uri)
        assert made.code == 0, made.err
        assert b"made" in bare("ctl", "list_vhosts", uri=uri).out
