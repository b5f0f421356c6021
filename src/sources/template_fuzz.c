/* A template, a zero, and what it is filled in with: JSON, or a line. */
#include "sources/template.h"

#include "base/err.h"
#include "sources/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct template_name names[] = {{"line", false}, {"header", true}, {NULL, false}};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    (void)more;
    *value = *(const struct bytes *)owner;
    return bytes_equal(name, bytes_of_text("line"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct template template;
    char why[TEMPLATE_WHY_MAX] = "";
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    struct bytes text = bytes_of(data, zero ? (size_t)(zero - data) : size);
    struct bytes read = zero ? bytes_of(zero + 1, size - text.size - 1) : (struct bytes){0};
    if (!template_read(&template, text, names, true, why)) {
        CHECK(why[0]);
        return 0;
    }
    struct text out = {0};
    json_t *json = json_read(read);
    CHECK(template_fill(&template, &(struct template_values){.find = find, .owner = &read, .json = json}, &out));
    CHECK(template.count > 1 || !template.count || template.parts[0].kind != PART_TEXT || out.size <= text.size);
    json_decref(json);
    text_deinit(&out);
    template_deinit(&template);
    return 0;
}
