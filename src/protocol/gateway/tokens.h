/* Access tokens by HTTP: who says "Authorization: Bearer gwt_…" (RFC 6750), and the resources that make, list and remove tokens. What a token is, and how it is kept: token.h. */
#ifndef PROTOCOL_GATEWAY_TOKENS_H
#define PROTOCOL_GATEWAY_TOKENS_H

#include "protocol/gateway/task.h"
#include "protocol/token/token.h"

/* Is the header's scheme Bearer? *text is what stands behind it. */
bool bearer_read(struct bytes authorization, struct bytes *text);

/* What the token stands for in the vhost, now; token_grant_deinit it. False: nothing (it is none, or expired, or gone), and *why says so. */
bool bearer_judge(const struct gateway *gateway, struct bytes vhost, struct bytes text, struct token_grant *grant, const char **why);

/* A member who came by a token: is that good still? Looks only if something may have changed. */
bool bearer_is_good(struct member *member);

#endif
