/* Settings from a file, the environment and the command line; and what is not understood. */
#include "server/address.h"
#include "server/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char *no_environment[] = {NULL};

struct outcome {
    struct config config;
    struct config_complaint complaint;
    enum gw_err err;
    int help;
};

/* `file`: its content, or NULL for none. Up to three arguments. */
static struct outcome read_all(const char *file, char **environment, const char *a, const char *b, const char *c)
{
    struct outcome o = {.complaint = {""}};
    char path[] = "/tmp/godwit-config-XXXXXX", option[64];
    const char *words[] = {"serve", NULL, NULL, NULL, NULL};
    int count = 1;
    if (file) {
        int descriptor = mkstemp(path);
        assert_int_equal(write(descriptor, file, strlen(file)), (ssize_t)strlen(file));
        close(descriptor);
        snprintf(option, sizeof(option), "--config=%s", path);
        words[count++] = option;
    }
    const char *more[] = {a, b, c};
    for (unsigned i = 0; i < 3 && more[i]; i++)
        words[count++] = more[i];
    o.err = config_read(&o.config, count, (char **)(uintptr_t)words, environment ? environment : no_environment, &o.help, &o.complaint);
    if (file)
        unlink(path);
    return o;
}

static void assert_refused(struct outcome o, const char *part, const char *other)
{
    assert_int_equal(o.err, GW_ERR_INVALID);
    if (!strstr(o.complaint.text, part) || !strstr(o.complaint.text, other))
        fail_msg("'%s' does not contain '%s' and '%s'", o.complaint.text, part, other);
    assert_null(strchr(o.complaint.text, '\n'));
}

static void the_stronger_one_wins(void **state)
{
    (void)state;
    const char *file = "# comment\namqp_port = 1\nreactors=3 ; why\n\ndata-dir = /a b\nlog_file_size = 4Mi\n";
    char port[] = "GODWIT_AMQP_PORT=2", shards[] = "GODWIT_SHARDS=9";
    char *environment[] = {port, shards, NULL};
    struct outcome o = read_all(file, environment, "--amqp-port", "3", "--shards=7");
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.config.amqp_port, 3);
    assert_int_equal(o.config.shards, 7);
    assert_int_equal(o.config.reactors, 3);
    assert_int_equal(o.config.log_file_size, 4 << 20);
    assert_string_equal(o.config.data_dir, "/a b");
    assert_int_equal(o.config.max_message_size, 128u << 20);
    assert_int_equal(o.config.listen_is_default, 1);
    config_deinit(&o.config);
    o = read_all(file, environment, NULL, NULL, NULL);
    assert_int_equal(o.config.amqp_port, 2);
    config_deinit(&o.config);
    o = read_all(file, NULL, NULL, NULL, NULL);
    assert_int_equal(o.config.amqp_port, 1);
    config_deinit(&o.config);
    o = read_all(NULL, NULL, NULL, NULL, NULL);
    assert_int_equal(o.config.amqp_port, 5672);
    assert_true(o.config.amqps_port == PORT_OFF && o.config.https_port == PORT_OFF);
    assert_null(o.config.data_dir);
    config_deinit(&o.config);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    char bad_variable[] = "GODWIT_AMQP_PORT=x";
    char *environment[] = {bad_variable, NULL};
    assert_refused(read_all(NULL, NULL, "--amqp-prot", "1", NULL), "--amqp-prot", "'--amqp-port'");
    assert_refused(read_all(NULL, NULL, "--reactor=2", NULL, NULL), "--reactor'", "'--reactors'");
    assert_refused(read_all(NULL, NULL, "--amqp-port", NULL, NULL), "--amqp-port", "takes a value");
    assert_refused(read_all(NULL, NULL, "--amqp-port", "70000", NULL), "65535", "70000");
    assert_refused(read_all(NULL, NULL, "--amqp-port=", NULL, NULL), "--amqp-port", "number");
    assert_refused(read_all(NULL, NULL, "--https-port=on", NULL, NULL), "--https-port", "'on'");
    assert_refused(read_all(NULL, NULL, "--https-port=0", "--tls-key=k", NULL), "https_port needs", "tls_certificate");
    assert_refused(read_all(NULL, NULL, "--tls-verify=required", NULL, NULL), "required", "tls_ca");
    assert_refused(read_all(NULL, NULL, "--amqp-port=off", "--http-port=off", NULL), "every port", "off");
    assert_refused(read_all(NULL, NULL, "--log-level=loud", NULL, NULL), "info|warning|error", "loud");
    assert_refused(read_all(NULL, NULL, "--log-file-size=1000", NULL, NULL), "log_file_size", "1Mi");
    assert_refused(read_all(NULL, NULL, "--data-dir=", NULL, NULL), "--data-dir", "no value");
    assert_refused(read_all(NULL, NULL, "x", NULL, NULL), "'x'", "--");
    assert_refused(read_all(NULL, environment, NULL, NULL, NULL), "GODWIT_AMQP_PORT", "'x'");
    assert_refused(read_all("heartbeats = 5\n", NULL, NULL, NULL, NULL), ":1: unknown key 'heartbeats'", "'heartbeat'");
    assert_refused(read_all("shards = 5\nnonsense\n", NULL, NULL, NULL, NULL), ":2:", "key = value");
    assert_refused(read_all("nonsense\nshard = 5\n", NULL, NULL, NULL, NULL), ":1:", "key = value");
    assert_refused(read_all("shards = 5\nshards = 6\n", NULL, NULL, NULL, NULL), ":2:", "twice");
    assert_refused(read_all("shards = 5\n  6\n", NULL, NULL, NULL, NULL), ":2:", "start of its line");
    assert_refused(read_all("[main]\nshards = 5\n", NULL, NULL, NULL, NULL), ":1:", "[main]");
    assert_refused(read_all("[source a]\n", NULL, NULL, NULL, NULL), ":1:", "\"kind\" must be");
    assert_refused(read_all("config = x\n", NULL, NULL, NULL, NULL), ":1:", "another one");
    static char line[9000];
    memset(line, 'x', sizeof(line));
    memcpy(line, "data_dir = ", 11);
    line[8998] = '\n';
    line[8999] = '\0';
    assert_refused(read_all(line, NULL, NULL, NULL, NULL), ":1:", "longer than");
    struct outcome o = read_all(NULL, NULL, "--config", "/no/such/file", NULL);
    assert_int_equal(o.err, GW_ERR_NOT_FOUND);
    assert_non_null(strstr(o.complaint.text, "/no/such/file"));
}

/* Longer than what inih takes at a time. */
static void long_lines_are_lines(void **state)
{
    (void)state;
    char file[1200], value[301];
    memset(value, 'v', 300);
    value[300] = '\0';
    for (unsigned size = 165; size < 200; size++) {
        snprintf(file, sizeof(file), "# %s = 1\n; x\ndata_dir =  %.*s  ; a comment\nshards = 3\n# %s", value, (int)size, value, value);
        struct outcome o = read_all(file, NULL, NULL, NULL, NULL);
        assert_int_equal(o.err, GW_OK);
        assert_int_equal(strlen(o.config.data_dir), size);
        assert_int_equal(o.config.shards, 3);
        config_deinit(&o.config);
    }
    snprintf(file, sizeof(file), "data_dir = x%sy;z", value);
    struct outcome o = read_all(file, NULL, NULL, NULL, NULL);
    assert_int_equal(strlen(o.config.data_dir), 304);
    config_deinit(&o.config);
    snprintf(file, sizeof(file), "shards = 3\n%s = 1\n", value);
    assert_refused(read_all(file, NULL, NULL, NULL, NULL), ":2:", "key = value");
    snprintf(file, sizeof(file), "shards = 3\n%s\n", value);
    assert_refused(read_all(file, NULL, NULL, NULL, NULL), ":2:", "key = value");
}

static void sections_have_long_names(void **state)
{
    (void)state;
    char file[400], name[65];
    memset(name, 'n', 64);
    name[64] = '\0';
    snprintf(file, sizeof(file), "[source %s]\nkind = timer\nevery = 30\n[source %.63s]\nkind = cron\nexpression = @daily\nzone = Europe/Berlin\n", name, name);
    struct outcome o = read_all(file, NULL, NULL, NULL, NULL);
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.config.source_count, 2);
    assert_string_equal(o.config.sources[0].id, name);
    assert_non_null(strstr(o.config.sources[0].text, "\"30\""));
    config_deinit(&o.config);
    snprintf(file, sizeof(file), "[source %sn]\nkind = timer\nevery = 30\n", name);
    assert_refused(read_all(file, NULL, NULL, NULL, NULL), ":1:", "no name of a source");
    snprintf(file, sizeof(file), "[source %s%s]\n", name, name);
    assert_refused(read_all(file, NULL, NULL, NULL, NULL), ":1:", "name of a section");
    assert_refused(read_all("[source a]\nkind = cron\nexpression = @daily\nzone = Mars/X\n", NULL, NULL, NULL, NULL), ":1:", "no time zone");
}

static void help_and_strange_variables(void **state)
{
    (void)state;
    struct outcome o = read_all(NULL, NULL, "--help", NULL, NULL);
    assert_int_equal(o.err, GW_OK);
    assert_int_equal(o.help, 1);
    config_deinit(&o.config);
    char url[] = "GODWIT_URL=amqp://x", port[] = "GODWIT_PORT=tcp://1.2.3.4:5672", typo[] = "GODWIT_DATADIR=/x";
    char *fine[] = {url, port, NULL}, *strange[] = {url, typo, NULL}, name[64];
    assert_null(config_strange_variable(fine, name, sizeof(name)));
    assert_ptr_equal(config_strange_variable(strange, name, sizeof(name)), typo);
    assert_string_equal(name, "GODWIT_DATA_DIR");
}

static void addresses(void **state)
{
    (void)state;
    struct address_list list;
    char text[ADDRESS_TEXT_SIZE];
    assert_true(address_list_parse("0.0.0.0, ::1,[fe80::1] ,1.2.3.4", 5672, &list, text, sizeof(text)));
    assert_int_equal(list.count, 4);
    address_text(&list.items[1], text);
    assert_string_equal(text, "[::1]:5672");
    struct sockaddr_storage dial = address_to_dial(&list.items[0]);
    address_text(&dial, text);
    assert_string_equal(text, "127.0.0.1:5672");
    assert_false(address_list_parse("localhost", 1, &list, text, sizeof(text)));
    assert_string_equal(text, "localhost");
    assert_false(address_list_parse("1.2.3.4,", 1, &list, text, sizeof(text)));
    assert_false(address_list_parse("", 1, &list, text, sizeof(text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stronger_one_wins),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(long_lines_are_lines),
        cmocka_unit_test(sections_have_long_names),
        cmocka_unit_test(help_and_strange_variables),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
