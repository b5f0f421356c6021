/* The commands that lie above this layer, as help and the shells' completion know them. What their options mean is read
 * where they are run; man_test proves that both name the same ones. */
#include "cli/commands.h"
#include "cli/receiver.h"

#define ROW(letter, kind, name, argument, help) {letter, kind, name, argument, help, 0, 0, 0}

static const struct option serve_options[] = {
    ROW(0, OPTION_TEXT, "config", "FILE", "read settings from this file: lines of the form key = value"),
    ROW(0, OPTION_TEXT, "data-dir", "DIR", "where messages are kept; made if missing (default: /var/lib/godwit as root under a service manager, ./godwit-data otherwise)"),
    ROW(0, OPTION_TEXT, "amqp-port", "PORT|off", "TCP port of AMQP 0-9-1 (default: 5672; 0: any free one; off: none)"),
    ROW(0, OPTION_TEXT, "http-port", "PORT|off", "TCP port of HTTP (default: 15672, done without when another program has it; 0: any free one; off: none)"),
    ROW(0, OPTION_TEXT, "amqps-port", "PORT|off", "TCP port of AMQP 0-9-1 with TLS, usually 5671 (default: off)"),
    ROW(0, OPTION_TEXT, "https-port", "PORT|off", "TCP port of HTTP with TLS, such as 15671 (default: off)"),
    ROW(0, OPTION_TEXT, "tls-certificate", "FILE", "the certificate, with those that lead up to its authority behind it (PEM)"),
    ROW(0, OPTION_TEXT, "tls-key", "FILE", "its key, not encrypted (PEM)"),
    ROW(0, OPTION_TEXT, "tls-ca", "FILE", "the authorities whose certificates clients may show (PEM)"),
    ROW(0, OPTION_CHOICE, "tls-verify", "none|optional|required", "whether clients are asked for a certificate, and must show one (default: none)"),
    ROW(0, OPTION_CHOICE, "http-guest", "on|off", "a request by HTTP from this machine that says no user is guest (default: on; off behind a proxy)"),
    ROW(0, OPTION_TEXT, "http-origins", "ORIGINS", "pages of these origins may use HTTP, such as https://app.example, separated by commas; *: all (default: none but its own)"),
    ROW(0, OPTION_CHOICE, "http", "on|off", "listen for HTTP (default: on)"),
    ROW(0, OPTION_TEXT, "webhook-networks", "NETWORKS", "addresses and networks (10.0.0.0/8) that webhooks may be posted to beside the public internet, separated by commas"),
    ROW(0, OPTION_TEXT, "sources-local", "on|off", "sources that are declared by HTTP may read files, start programs and listen on this machine (default: off)"),
    ROW(0, OPTION_TEXT, "webhook-ca", "FILE", "authorities (PEM) whose certificates https sinks of webhooks may have, beside the system's"),
    ROW(0, OPTION_TEXT, "listen", "ADDRESSES", "IPv4 and IPv6 addresses to listen on, separated by commas (default: all)"),
    ROW(0, OPTION_NUMBER, "reactors", "N", "threads (default: one for each processor but one)"),
    ROW(0, OPTION_NUMBER, "shards", "N", "units of order of a new data directory; an existing one keeps its own"),
    ROW(0, OPTION_CHOICE, "log", "file|memory", "keep durable things in files (the default), or keep nothing at all"),
    ROW(0, OPTION_NUMBER, "log-file-size", "BYTES", "size of a log file, a multiple of 1Mi"),
    ROW(0, OPTION_NUMBER, "log-file-count", "N", "log files of a shard that are filled before what still waits is moved to segments"),
    ROW(0, OPTION_NUMBER, "max-message-size", "BYTES", "longest body of a message (default: 128Mi)"),
    ROW(0, OPTION_NUMBER, "consumer-timeout", "MS", "how long a delivery may wait for its acknowledgement before its channel is closed (default: 1800000; 0: for ever)"),
    ROW(0, OPTION_NUMBER, "frame-max", "BYTES", "longest frame, proposed to clients (default: 131072)"),
    ROW(0, OPTION_NUMBER, "channel-max", "N", "channels of a connection, proposed to clients (default: 2047)"),
    ROW(0, OPTION_NUMBER, "heartbeat", "SECONDS", "proposed to clients (default: 60; 0: none)"),
    ROW(0, OPTION_NUMBER, "memory-limit", "BYTES", "message bodies kept in memory before queues page out"),
    ROW(0, OPTION_NUMBER, "disk-free-limit", "BYTES", "free space below which publishers are blocked (default: 50M)"),
    ROW(0, OPTION_NUMBER, "max-connections", "N", "more wait until one closes (default: as many as the limit on open files allows)"),
    ROW(0, OPTION_NUMBER, "max-connections-per-address", "N", "more of one address are closed at once (default: any number)"),
    ROW(0, OPTION_NUMBER, "http-rate-per-address", "N", "requests a second of one address (default: any number)"),
    ROW(0, OPTION_NUMBER, "http-rate-per-user", "N", "requests a second of one user (default: any number)"),
    ROW(0, OPTION_NUMBER, "http-failures-per-address", "N", "passwords and tokens of one address that may be wrong in a minute (default: 60; 0: any number)"),
    ROW(0, OPTION_TEXT, "load-definitions", "FILE", "declare at every start what this file says, which is one that export_definitions writes"),
    ROW(0, OPTION_CHOICE, "disk", "auto|threads", "write with io_uring where the system lets us (auto), or always with threads"),
    ROW(0, OPTION_CHOICE, "log-level", "info|warning|error", "least important lines to write to stderr (default: info)"),
};

#define SINK(field) offsetof(struct receiver_settings, field)

static const struct option sink_options[] = {
    {'p', OPTION_NUMBER, "port", "PORT", "TCP port (default: 9000; 0: any free one)", SINK(port), 0, 65535},
    {0, OPTION_TEXT, "listen", "ADDRESSES", "addresses to listen on, separated by commas (default: 127.0.0.1)", SINK(listen), 0, 0},
    {'s', OPTION_LIST, "secret", "SECRET", "verify signatures with it (whsec_…); what is not genuine is answered with 401; may be repeated", SINK(secrets), 0, 0},
    {'m', OPTION_CHOICE, "mode", "answer|hang|close|half|garbage|endless|redirect",
     "answer with a status (default), never, by closing, with half an answer, with what is no HTTP, with a body that does not end, or with a redirect", SINK(mode), 0, 0},
    {0, OPTION_NUMBER, "status", "N", "the status to answer with (default: 204)", SINK(status), 200, 599},
    {0, OPTION_NUMBER, "first", "N", "behave so at the first N requests only, and answer 204 afterwards", SINK(first), 0, 0},
    {0, OPTION_NUMBER, "retry-after", "SECONDS", "say so in answers that are no success", SINK(retry_after_s), 0, 1000000},
    {0, OPTION_DURATION, "delay", "TIME", "wait before each answer", SINK(delay_ms), 0, 0},
    {'n', OPTION_NUMBER, "count", "N", "end after N requests", SINK(count), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "write a JSON object a line", SINK(json), 0, 0},
};

const struct receiver_settings receiver_defaults = {.port = 9000, .status = 204, .listen = "127.0.0.1", .mode = "answer"};

static const struct option sim_options[] = {
    ROW(0, OPTION_NUMBER, "seed", "N", "one seed (default: 1)"),
    ROW(0, OPTION_TEXT, "seeds", "A..B", "all seeds from A to B"),
    ROW(0, OPTION_NUMBER, "ops", "N", "client operations in each seed (default: 10000)"),
    ROW(0, OPTION_CHOICE, "faults", "none|crash|all", "which faults to inject (default: crash)"),
    ROW(0, OPTION_NUMBER, "crash-at", "K", "the process dies at the disk's Kth operation"),
    ROW(0, OPTION_NUMBER, "nomem-at", "K", "the Kth allocation fails (only in the program that was linked for it)"),
    ROW(0, OPTION_FLAG, "log", NULL, "the file log alone"),
    ROW(0, OPTION_FLAG, "features", NULL, "queues with arguments: expiry, lengths, dead letters, priorities, limits, delays, streams"),
    ROW(0, OPTION_FLAG, "bus", NULL, "subscriptions: webhooks with retries, order, breakers, handshakes, pauses and ends, over virtual days"),
    ROW(0, OPTION_FLAG, "sources", NULL, "the broker's own sources: streams, files and clocks, over crashes at any step and virtual days"),
    ROW(0, OPTION_FLAG, "handlers", NULL, "a program with libgodwit: its handlers, over crashes at any step and virtual days"),
    ROW(0, OPTION_TEXT, "only", "LIST", "of these features only, separated by commas"),
    ROW(0, OPTION_FLAG, "planted", NULL, "find every planted bug (needs a build with -Dplanted_bugs=true)"),
    ROW(0, OPTION_TEXT, "bug", "NAME", "plant one bug"),
    ROW(0, OPTION_FLAG, "verbose", NULL, "print every event"),
};

const struct command serve_command = {
    .name = "serve",
    .operands = "",
    .summary = "run the broker",
    .table = {serve_options, sizeof serve_options / sizeof serve_options[0]},
    .is_entry = true,
};

const struct command sink_command = {
    .name = "sink",
    .operands = "",
    .summary = "receive webhooks, show them, and answer as badly as is wanted",
    .text = "  godwit sink --secret whsec_...\n"
            "  godwit sink --status 503 --first 3",
    .table = {sink_options, sizeof sink_options / sizeof sink_options[0]},
    .defaults = &receiver_defaults,
    .settings_size = sizeof(struct receiver_settings),
    .is_entry = true,
};

const struct command sim_command = {
    .name = "sim",
    .operands = "",
    .summary = "run whole brokers against faulty disks and networks, from one seed",
    .table = {sim_options, sizeof sim_options / sizeof sim_options[0]},
    .is_entry = true,
};
