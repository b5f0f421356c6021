/* refusals BUS: what makes no sense is refused at once, with a code and a sentence, and leaves the bus as it was. Says what was answered otherwise, and "fine". */
#include "../../examples/bus.h"

#include <stdlib.h>

static gw_loop *loop;
static gw_bus *bus;
static int wrong;

static void expect(const char *what, int result, int wanted, const char *sentence)
{
    if (result == wanted && (result == GW_DONE || strstr(gw_error(loop), sentence)))
        return;
    printf("%s: %s (%s)\n", what, gw_result_text(result), gw_error(loop));
    wrong++;
}

static void on_event(gw_event *event, void *context)
{
    (*(int *)context)++;
    gw_event_ack(event);
}

/* Functions that answer a handle say nothing but a sentence. */
static void expect_none(const char *what, const void *handle, const char *sentence)
{
    expect(what, handle ? GW_DONE : GW_E_INVALID, GW_E_INVALID, sentence);
}

#define PUBLISH(what, wanted, sentence, type, data, size, ...) expect(what, gw_publish(bus, type, data, size, &(gw_publish_options){__VA_ARGS__}, NULL, NULL), wanted, sentence)

static void publishes(void)
{
    static const char bad[] = "caf\xe9";
    const gw_header reserved[] = {{"id", "1"}}, twice[] = {{"a", "1"}, {"a", "2"}}, latin[] = {{"a", bad}}, nothing[] = {{"a", NULL}};
    PUBLISH("type", GW_E_INVALID, "UTF-8", bad, "x", 1, .id = NULL);
    PUBLISH("id", GW_E_INVALID, "the id of an event is a text in UTF-8", "a", "x", 1, .id = bad);
    PUBLISH("source", GW_E_INVALID, "UTF-8", "a", "x", 1, .source = bad);
    PUBLISH("subject", GW_E_INVALID, "UTF-8", "a", "x", 1, .subject = bad, .transient = 1);
    PUBLISH("content type", GW_E_INVALID, "UTF-8", "a", "x", 1, .content_type = bad);
    PUBLISH("key", GW_E_INVALID, "UTF-8", "a", "x", 1, .key = bad);
    PUBLISH("a header's value", GW_E_INVALID, "'a' is no header", "a", "x", 1, .headers = latin, .header_count = 1);
    PUBLISH("a header of nothing", GW_E_INVALID, "'a' is no header", "a", "x", 1, .headers = nothing, .header_count = 1);
    PUBLISH("no headers", GW_E_INVALID, "said to be 3", "a", "x", 1, .headers = NULL, .header_count = 3);
    PUBLISH("a header for an attribute", GW_E_INVALID, "a place of its own", "a", "x", 1, .headers = reserved, .header_count = 1);
    PUBLISH("a header twice", GW_E_INVALID, "there twice", "a", "x", 1, .headers = twice, .header_count = 2);
    PUBLISH("a size below nothing", GW_E_LIMIT, "at most 1 GiB", "a", "x", (size_t)-1, .id = NULL);
    PUBLISH("the same, transient", GW_E_LIMIT, "at most 1 GiB", "a", "x", (size_t)-1, .transient = 1);
    PUBLISH("a far time", GW_E_LIMIT, "before the year 10000", "a", "x", 1, .time_ms = UINT64_MAX);
    expect("waiting for it", gw_publish_wait(bus, bad, "x", 1, NULL, 1000), GW_E_INVALID, "UTF-8");
    expect("requesting it", gw_request(bus, bad, "x", 1, NULL, NULL, NULL), GW_E_INVALID, "");
}

static void handlers(void)
{
    char longer[300];
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = 0;
    expect_none("pattern", gw_on(bus, "caf\xe9", on_event, &wrong, NULL), "UTF-8");
    expect_none("name", gw_on(bus, "a", on_event, &wrong, &(gw_handler_options){.name = "caf\xe9"}), "UTF-8");
    expect_none("a name of the broker's", gw_on(bus, "a", on_event, &wrong, &(gw_handler_options){.name = "amq.mine"}), "'amq.'");
    expect_none("dead letters", gw_on(bus, "a", on_event, &wrong, &(gw_handler_options){.name = "a", .dead_letter = "caf\xe9"}), "UTF-8");
    expect_none("no delays", gw_on(bus, "a", on_event, &wrong, &(gw_handler_options){.name = "a", .retry_delay_count = 2}), "said to be 2");
    expect("forgetting", gw_forget(bus, "caf\xe9"), GW_E_LIMIT, "UTF-8");
    expect("forgetting what is too long", gw_forget(bus, longer), GW_E_LIMIT, "1 to 250 bytes");
}

static void sources(void)
{
    expect_none("an argument", gw_source_process(bus, (const char *const[]){"rm", "caf\xe9", NULL}, NULL), "UTF-8");
    expect_none("a template", gw_source_timer(bus, 1000, &(gw_source_options){.type = "caf\xe9"}), "option type");
    expect_none("headers of nothing", gw_source_sse(bus, "http://127.0.0.1:1/", &(gw_source_options){.header_count = 2}), "option headers");
    expect_none("missed runs", gw_source_timer(bus, 1000, &(gw_source_options){.missed = (enum gw_missed)7}), "option missed");
}

int main(int argc, char **argv)
{
    int handled = 0;
    loop = gw_loop_new();
    bus = open_bus(loop, argc > 1 ? argv[1] : NULL);
    expect_none("a directory for a URI", gw_connect(loop, "orders.gw", NULL), "does not begin with amqp://");
    expect_none("nothing for a URI", gw_connect(loop, "", NULL), "does not begin with amqp://");
    expect_none("a comma too many", gw_connect(loop, "amqp://localhost,", NULL), "does not begin with amqp://");
    publishes();
    handlers();
    sources();
    gw_handler *handler = gw_on(bus, "good", on_event, &handled, &(gw_handler_options){.name = "good"});
    expect("a good one", gw_publish_wait(bus, "good", "x", 1, &(gw_publish_options){.subject = "caf\xc3\xa9"}, 10000), GW_DONE, "");
    for (int i = 0; i < 1000 && !handled; i++) {
        gw_loop_step(loop);
        gw_publish_wait(bus, "nobody", "x", 1, NULL, 10000);
    }
    gw_off(handler);
    if (handled == 1 && !wrong)
        puts("fine");
    gw_loop_free(loop);
    return wrong != 0;
}
