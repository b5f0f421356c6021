#include "protocol/gateway/pace.h"

#include "protocol/http/problem.h"

static bool answer_unless(bool admits, struct http_call *call, const char *whose, const struct rate_limit *limit, uint64_t wait_us, const char *what)
{
    if (!admits)
        http_problem_later(call, &(struct http_pace){.name = whose, .count = limit->count, .window_us = limit->period_us, .wait_us = wait_us}, what);
    return admits;
}

bool pace_admits(struct gateway *gateway, struct http_call *call)
{
    const struct rate_limit *limit = &gateway->hall->config->address_limit;
    uint64_t wait_us = 0;
    return !gateway->rates || answer_unless(rate_take(&gateway->rates->requests, limit, gateway->now_us, &wait_us), call, "address", limit, wait_us,
                                               "Your address asks too often.");
}

bool pace_admits_member(struct member *member, struct http_call *call)
{
    const struct gateway *gateway = member->gateway;
    const struct rate_limit *limit = &gateway->hall->config->user_limit;
    uint64_t wait_us = 0;
    return !member->requests || answer_unless(rate_take(member->requests, limit, gateway->now_us, &wait_us), call, "user", limit, wait_us, "You ask too often.");
}

bool pace_lets_try(struct gateway *gateway, struct http_call *call)
{
    const struct rate_limit *limit = &gateway->hall->config->failure_limit;
    uint64_t wait_us = 0;
    return !gateway->rates || answer_unless(rate_allows(&gateway->rates->failures, limit, gateway->now_us, &wait_us), call, "failures", limit, wait_us,
                                               "Too many passwords or tokens from your address were wrong.");
}

void pace_failed(struct gateway *gateway)
{
    uint64_t wait_us = 0;
    if (gateway->rates)
        rate_take(&gateway->rates->failures, &gateway->hall->config->failure_limit, gateway->now_us, &wait_us);
}
