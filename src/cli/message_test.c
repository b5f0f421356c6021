/* A message's way from the options of publish to the JSON of consume. */
#include "cli/message_json.h"
#include "cli/message_options.h"
#include "protocol/amqp/properties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void expect_json(const struct message_settings *settings, struct bytes body, const char *expected)
{
    uint8_t room[MESSAGE_PROPERTIES_MAX];
    char complaint[200];
    struct remote_message message = {.exchange = bytes_of_text("x"), .routing_key = bytes_of_text("k"), .redelivered = true, .body = body};
    assert_int_equal(message_options_encode(settings, room, &message.properties, complaint, sizeof complaint), GW_OK);
    json_t *json = message_json(&message);
    assert_non_null(json);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

static void nothing_but_persistence_is_the_default(void **state)
{
    (void)state;
    struct message_settings settings = {.priority = MESSAGE_NO_PRIORITY};
    expect_json(&settings, bytes_of_text("h\"i"),
                "{\"exchange\":\"x\",\"routing_key\":\"k\",\"redelivered\":true,\"properties\":{\"delivery_mode\":2},\"body\":\"h\\\"i\"}");
    settings.transient = true;
    expect_json(&settings, bytes_of(NULL, 0),
                "{\"exchange\":\"x\",\"routing_key\":\"k\",\"redelivered\":true,\"properties\":{\"delivery_mode\":1},\"body\":\"\"}");
}

static void every_property_and_type_arrives(void **state)
{
    (void)state;
    struct message_settings settings = {
        .content_type = "t/x", .content_encoding = "gzip", .correlation_id = "c", .reply_to = "r", .expiration = "100", .message_id = "m",
        .type = "ty", .user_id = "u", .app_id = "a", .priority = 0, .delivery_mode = 2, .timestamp = 17,
        .headers = {{"a=b=c", "n:int=-5", "l:int=5000000000", "t:bool=true", "f:float=0.5", "s:time=12", "v:null=", "o:x=1", ":int=7", "\303\244=\377"}, 10},
    };
    expect_json(&settings, bytes_of("\377\376\375\374", 4),
                "{\"exchange\":\"x\",\"routing_key\":\"k\",\"redelivered\":true,\"properties\":{\"content_type\":\"t/x\","
                "\"content_encoding\":\"gzip\",\"correlation_id\":\"c\",\"reply_to\":\"r\",\"expiration\":\"100\",\"message_id\":\"m\","
                "\"type\":\"ty\",\"user_id\":\"u\",\"app_id\":\"a\",\"delivery_mode\":2,\"priority\":0,\"timestamp\":17,\"headers\":{"
                "\"a\":\"b=c\",\"n\":-5,\"l\":5000000000,\"t\":true,\"f\":0.5,\"s\":12,\"v\":null,\"o:x\":\"1\",\":int\":\"7\","
                "\"\303\244\":{\"base64\":\"/w==\"}}},\"body_base64\":\"//79/A==\"}");
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const char *const headers[] = {"noequals", "=x", "n:int=", "n:int=5x", "n:int=99999999999999999999", "t:bool=yes", "f:float=", "s:time=-1", "v:null=x"};
    uint8_t room[MESSAGE_PROPERTIES_MAX];
    char complaint[200], longest[300];
    struct bytes encoded;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct message_settings settings = {.priority = MESSAGE_NO_PRIORITY, .headers = {{headers[i]}, 1}};
        complaint[0] = '\0';
        if (message_options_encode(&settings, room, &encoded, complaint, sizeof complaint) != GW_ERR_INVALID)
            fail_msg("%s was accepted", headers[i]);
        assert_non_null(strstr(complaint, "--header"));
    }
    memset(longest, 'x', 256);
    longest[256] = '\0';
    struct message_settings settings = {.priority = MESSAGE_NO_PRIORITY, .app_id = longest};
    assert_int_equal(message_options_encode(&settings, room, &encoded, complaint, sizeof complaint), GW_ERR_INVALID);
    assert_string_equal(complaint, "--app-id is longer than 255 bytes");
    char *huge = malloc(40001);
    assert_non_null(huge);
    memset(huge, 'x', 40000);
    huge[1] = '=';
    huge[40000] = '\0';
    settings = (struct message_settings){.priority = MESSAGE_NO_PRIORITY, .headers = {{huge}, 1}};
    assert_int_equal(message_options_encode(&settings, room, &encoded, complaint, sizeof complaint), GW_ERR_INVALID);
    free(huge);
}

static void nested_tables_become_nested_json(void **state)
{
    (void)state;
    uint8_t room[256], encoded[300];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    amqp_table_begin(&writer, room, sizeof room);
    size_t mark = amqp_table_nest_begin(&writer, "in");
    amqp_table_put_int(&writer, "x", 1);
    amqp_table_nest_end(&writer, mark);
    amqp_table_put_raw(&writer, bytes_of_text("list"), 'A', bytes_of("\0\0\0\4t\1t\0", 8));
    amqp_table_put_raw(&writer, bytes_of_text("cents"), 'D', bytes_of("\2\0\0\0\175", 5));
    assert_true(amqp_table_finish(&writer, &properties.headers));
    size_t size = amqp_properties_encode(&properties, encoded, sizeof encoded);
    struct remote_message message = {.properties = bytes_of(encoded, size)};
    json_t *json = message_json(&message);
    assert_non_null(json);
    char *text = json_dumps(json_object_get(json_object_get(json, "properties"), "headers"), JSON_COMPACT);
    assert_string_equal(text, "{\"in\":{\"x\":1},\"list\":[true,false],\"cents\":1.25}");
    free(text);
    json_decref(json);
    message.properties = bytes_of("\x80", 1);
    assert_null(message_json(&message));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_but_persistence_is_the_default),
        cmocka_unit_test(every_property_and_type_arrives),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(nested_tables_become_nested_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
