#include "protocol/http/problem.h"

#include "protocol/http/session_state.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DETAIL_MAX 1024u

static void answer(struct http_call *call, unsigned status, const char *detail, const struct http_field *fields, unsigned field_count)
{
    json_t *problem = json_pack("{s:s, s:s, s:i, s:s}", "type", "about:blank", "title", http_reason(status), "status", (int)status, "detail", detail);
    if (!problem)   /* what the peer sent and is quoted here need not be UTF-8 */
        problem = json_pack("{s:s, s:s, s:i}", "type", "about:blank", "title", http_reason(status), "status", (int)status);
    char *text = problem ? json_dumps(problem, JSON_COMPACT) : NULL;
    http_answer(call, &(struct http_answer){.status = status, .type = "application/problem+json", .fields = fields, .field_count = field_count,
                                            .body = bytes_of_text(text ? text : "{}")});
    free(text);
    json_decref(problem);
}

/* A 401 says which ways there are. */
static void answer_challenge(struct http_call *call, unsigned status, const char *error, const char *detail)
{
    char bearer[80];
    struct http_field challenges[2];
    unsigned count = 0;
    if (status == 401)
        challenges[count++] = (struct http_field){bytes_of_text("www-authenticate"), bytes_of_text("Basic realm=\"Godwit\", charset=\"UTF-8\"")};
    if (status == 401 || error) {
        snprintf(bearer, sizeof(bearer), "Bearer realm=\"Godwit\"%s%s%s", error ? ", error=\"" : "", error ? error : "", error ? "\"" : "");
        challenges[count++] = (struct http_field){bytes_of_text("www-authenticate"), bytes_of_text(bearer)};
    }
    answer(call, status, detail, challenges, count);
}

void http_problem(struct http_call *call, unsigned status, const char *format, ...)
{
    char detail[DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof(detail), format, arguments);
    va_end(arguments);
    answer_challenge(call, status, NULL, detail);
}

void http_problem_challenge(struct http_call *call, unsigned status, const char *error, const char *format, ...)
{
    char detail[DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof(detail), format, arguments);
    va_end(arguments);
    answer_challenge(call, status, error, detail);
}

void http_problem_later(struct http_call *call, const struct http_pace *pace, const char *detail)
{
    char seconds[24], policy[96], left[96];
    unsigned long long wait_s = (pace->wait_us + 999999) / 1000000, window_s = (pace->window_us + 999999) / 1000000;
    snprintf(seconds, sizeof(seconds), "%llu", wait_s ? wait_s : 1);
    snprintf(policy, sizeof(policy), "\"%s\";q=%u;w=%llu", pace->name, pace->count, window_s);
    snprintf(left, sizeof(left), "\"%s\";r=0;t=%llu", pace->name, wait_s ? wait_s : 1);
    const struct http_field fields[] = {{bytes_of_text("retry-after"), bytes_of_text(seconds)},
                                        {bytes_of_text("ratelimit-policy"), bytes_of_text(policy)},
                                        {bytes_of_text("ratelimit"), bytes_of_text(left)}};
    answer(call, 429, detail, fields, 3);
}

void http_problem_method(struct http_call *call, const char *allow)
{
    const struct http_field field = {bytes_of_text("allow"), bytes_of_text(allow)};
    answer(call, 405, "This resource does not know that method.", &field, 1);
}
