#include "broker/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

/* Steps that a match may take: a name of 255 bytes needs far fewer, unless the pattern was made to take long. */
#define STEPS_MAX 100000u

struct pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

bool pattern_is_all(struct bytes text)
{
    return bytes_equal(text, bytes_of_text(".*"));
}

enum gw_err pattern_new(struct bytes text, struct pattern **out, char *why, size_t room, size_t *offset)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    struct pattern *pattern = calloc(1, sizeof(*pattern));
    if (!pattern)
        return GW_ERR_NOMEM;
    pattern->code = pcre2_compile(text.size ? text.data : (const uint8_t *)"", text.size, 0, &error, &at, NULL);
    if (!pattern->code) {
        if (why)
            pcre2_get_error_message(error, (PCRE2_UCHAR *)why, room);
        if (offset)
            *offset = at;
        free(pattern);
        return GW_ERR_INVALID;
    }
    pattern->data = pcre2_match_data_create(1, NULL);
    pattern->limits = pcre2_match_context_create(NULL);
    if (!pattern->data || !pattern->limits) {
        pattern_free(pattern);
        return GW_ERR_NOMEM;
    }
    pcre2_set_match_limit(pattern->limits, STEPS_MAX);
    *out = pattern;
    return GW_OK;
}

void pattern_free(struct pattern *pattern)
{
    if (!pattern)
        return;
    pcre2_match_data_free(pattern->data);
    pcre2_match_context_free(pattern->limits);
    pcre2_code_free(pattern->code);
    free(pattern);
}

bool pattern_matches(const struct pattern *pattern, struct bytes subject)
{
    return pattern && pcre2_match(pattern->code, subject.size ? subject.data : (const uint8_t *)"", subject.size, 0, 0, pattern->data, pattern->limits) >= 0;
}
