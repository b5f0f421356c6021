#include "sources/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct template_name names[] = {{"line", false}, {"empty", false}, {"bytes", false}, {"header", true}, {NULL, false}};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    (void)owner;
    if (bytes_equal(name, bytes_of_text("line")))
        *value = bytes_of_text("a line");
    else if (bytes_equal(name, bytes_of_text("header")) && bytes_equal(more, bytes_of_text("etag")))
        *value = bytes_of_text("\"7\"");
    else if (bytes_equal(name, bytes_of_text("bytes")))
        *value = bytes_of_text("\\\x01\xff");
    else if (bytes_equal(name, bytes_of_text("empty")))
        *value = (struct bytes){0};
    else
        return false;
    return true;
}

static void fill(const char *text, const char *json, const char *expected)
{
    struct template template;
    char why[TEMPLATE_WHY_MAX] = "";
    struct text out = {0};
    json_t *root = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    if (!template_read(&template, bytes_of_text(text), names, true, why))
        fail_msg("%s", why);
    assert_true(template_fill(&template, &(struct template_values){.find = find, .json = root}, &out));
    assert_int_equal(out.size, strlen(expected));
    assert_memory_equal(out.data ? (const char *)out.data : "", expected, out.size);
    text_deinit(&out);
    template_deinit(&template);
    json_decref(root);
}

static void refuse(const char *text, bool has_json, const char *expected)
{
    struct template template;
    char why[TEMPLATE_WHY_MAX] = "";
    assert_false(template_read(&template, bytes_of_text(text), names, has_json, why));
    assert_string_equal(why, expected);
}

static void values_are_quoted_for_json(void **state)
{
    (void)state;
    fill("{\"line\": {{quote:line}}, \"tag\": {{quote:header:etag}}, \"no\": {{quote:empty}}, \"or\": {{quote:empty|0}}}", NULL,
         "{\"line\": \"a line\", \"tag\": \"\\\"7\\\"\", \"no\": \"\", \"or\": 0}");
    fill("[{{quote:json:/a}},{{quote:json:/b}},{{quote:json:/c}},{{quote:json:/d}},{{quote:json:/e}},{{quote:json:/e|\"none\"}}]", "{\"a\": \"\\t\\\"\", \"b\": 1.5, \"c\": null, \"d\": {\"x\": [1]}}",
         "[\"\\t\\\"\",1.5,null,{\"x\":[1]},null,\"none\"]");
    fill("{{quote:bytes}}", NULL, "\"\\\\\\u0001\xef\xbf\xbd\"");
    refuse("{{quote:}}", true, "There is nothing called {{quote:}} here.");
    refuse("{{quote:quote:line}}", true, "There is nothing called {{quote:quote:line}} here.");
    refuse("{{quote:nothing}}", true, "There is nothing called {{quote:nothing}} here.");
}

static void places_are_filled_in(void **state)
{
    (void)state;
    fill("", NULL, "");
    fill("plain", NULL, "plain");
    fill("<{{line}}>", NULL, "<a line>");
    fill("{{line}}{{line}}", NULL, "a linea line");
    fill("{{header:etag}}", NULL, "\"7\"");
    fill("{{header:other}}", NULL, "");
    fill("{{header:other|none}}", NULL, "none");
    fill("{{empty|none}}", NULL, "none");
    fill("{{line|none}}", NULL, "a line");
    fill("{{{{line}}", NULL, "{{line}}");
    fill("{ {line}", NULL, "{ {line}");
}

static void fields_of_json_are_found(void **state)
{
    (void)state;
    const char *json = "{\"a\": {\"b\": [10, {\"c\": \"deep\"}]}, \"x/y\": 1, \"m~n\": true, \"\": \"no name\", \"null\": null, \"real\": 1.5, \"01\": 2}";
    fill("order.{{json:/a/b/1/c}}", json, "order.deep");
    fill("{{json:/a/b/0}}", json, "10");
    fill("{{json:/a/b}}", json, "[10,{\"c\":\"deep\"}]");
    fill("{{json:/x~1y}}{{json:/m~0n}}{{json:/}}", json, "1trueno name");
    fill("{{json:/null|nothing}}", json, "nothing");
    fill("{{json:/a/b/01|not an index}}", json, "not an index");
    fill("{{json:/a/b/2|behind the end}}", json, "behind the end");
    fill("{{json:/a/b/-|none}}", json, "none");
    fill("{{json:/a/x/y|none}}", json, "none");
    fill("{{json:/real}}", json, "1.5");
    fill("{{json:}}", "\"all of it\"", "all of it");
    fill("{{json:/a|no JSON}}", NULL, "no JSON");
}

static void what_is_wrong_is_said_when_it_is_declared(void **state)
{
    (void)state;
    refuse("{{other}}", true, "There is nothing called {{other}} here.");
    refuse("{{line:more}}", true, "There is nothing called {{line:more}} here.");
    refuse("{{header}}", true, "There is nothing called {{header}} here.");
    refuse("{{header:}}", true, "There is nothing called {{header:}} here.");
    refuse("{{}}", true, "There is nothing called {{}} here.");
    refuse("{{line", true, "The braces of \"{{line\" are not closed.");
    refuse("a{{", true, "The braces of \"{{\" are not closed.");
    refuse("{{json:a}}", true, "\"a\" is no JSON pointer, such as /order/id.");
    refuse("{{json:/~2}}", true, "\"/~2\" is no JSON pointer, such as /order/id.");
    refuse("{{json:/a}}", false, "There is nothing called {{json:/a}} here.");
    refuse("{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}{{line}}", true,
           "A template has too many parts, at \"{{line}}\".");
    refuse("\xff", true, "A template has at most 1024 bytes of UTF-8.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_quoted_for_json), cmocka_unit_test(places_are_filled_in), cmocka_unit_test(fields_of_json_are_found), cmocka_unit_test(what_is_wrong_is_said_when_it_is_declared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
