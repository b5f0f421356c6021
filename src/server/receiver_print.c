#include "server/receiver.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

/* A terminal is to show what came, not to do what it says. */
static void print_safely(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '\n' || c == '\t' || (c >= ' ' && c != 127))
            putchar(c);
        else
            printf("\\x%02x", c);
    }
}

static void print_field(const struct http_request *request, const char *before, const char *name)
{
    struct bytes value;
    if (!http_field_find(request, name, &value))
        return;
    fputs(before, stdout);
    print_safely(value);
}

static void print_text(const struct http_request *request, struct bytes body, const char *verdict)
{
    print_safely(request->method);
    putchar(' ');
    print_safely(request->path);
    print_field(request, "  ", "ce-type");
    print_field(request, "  id ", "webhook-id");
    print_field(request, "  attempt ", "webhook-attempt");
    if (verdict)
        printf("  signature %s", verdict);
    putchar('\n');
    if (body.size) {
        fputs("  ", stdout);
        print_safely(body);
        putchar('\n');
    }
}

static json_t *headers_of(const struct http_request *request)
{
    json_t *headers = json_object();
    for (unsigned i = 0; i < request->field_count; i++) {
        const struct http_field *field = &request->fields[i];
        char name[256];
        if (field->name.size >= sizeof(name))
            continue;
        for (size_t k = 0; k <= field->name.size; k++)
            name[k] = k == field->name.size ? 0 : (char)(field->name.data[k] >= 'A' && field->name.data[k] <= 'Z' ? field->name.data[k] | 32 : field->name.data[k]);
        json_t *value = json_stringn((const char *)field->value.data, field->value.size);
        if (value)
            json_object_set_new(headers, name, value);
    }
    return headers;
}

static void print_json(const struct http_request *request, struct bytes body, const char *verdict)
{
    json_t *root = json_object();
    json_object_set_new(root, "method", json_stringn((const char *)request->method.data, request->method.size));
    json_object_set_new(root, "path", json_stringn((const char *)request->path.data, request->path.size));
    json_object_set_new(root, "headers", headers_of(request));
    json_t *text = json_stringn(body.size ? (const char *)body.data : "", body.size);
    char *base64 = text ? NULL : malloc(body.size / 3 * 4 + 5);
    if (base64)
        EVP_EncodeBlock((uint8_t *)base64, body.data, (int)body.size);
    if (text)
        json_object_set_new(root, "body", text);
    else if (base64)
        json_object_set_new(root, "body_base64", json_string(base64));
    if (verdict)
        json_object_set_new(root, "signature", json_string(verdict));
    char *line = json_dumps(root, JSON_COMPACT);
    if (line)
        puts(line);
    free(line);
    free(base64);
    json_decref(root);
}

void receiver_print(const struct http_request *request, struct bytes body, const char *verdict, bool json)
{
    if (json)
        print_json(request, body, verdict);
    else
        print_text(request, body, verdict);
    fflush(stdout);
}
