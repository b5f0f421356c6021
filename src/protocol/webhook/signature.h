/* Signatures of webhooks as Standard Webhooks 1.0 has them (symmetric, v1): HMAC-SHA256 under the secret of "ID.TIMESTAMP.BODY", in base64.
 *
 *   webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek        webhook-timestamp: 1614265330        webhook-signature: v1,g0hM9SsE+OTP… v1,… (one for each secret that is valid now)
 */
#ifndef PROTOCOL_WEBHOOK_SIGNATURE_H
#define PROTOCOL_WEBHOOK_SIGNATURE_H

#include "base/bytes.h"

#define SECRET_KEY_MIN 24u           /* bytes, as the specification has it */
#define SECRET_KEY_MAX 64u
#define SECRET_TEXT_MAX 96u          /* "whsec_" and a key in base64, with a zero behind it */
#define SECRETS_MAX 2u               /* that are valid at once, while one takes the other's place */
#define SIGNATURE_MAX 128u           /* of so many secrets, with a zero behind it */
#define SIGNATURE_TOLERANCE_S 300u   /* how far a timestamp may lie from the time at which it is looked at */

struct webhook_secret {
    uint8_t key[SECRET_KEY_MAX];
    size_t size;
};

/* Reads "whsec_" and a key in base64 (the former may be left out). False: it is none, or too short, or too long. */
bool webhook_secret_read(struct bytes text, struct webhook_secret *secret);
/* Writes a key of `size` bytes (SECRET_KEY_MIN … SECRET_KEY_MAX) like that. */
void webhook_secret_write(const uint8_t *key, size_t size, char text[SECRET_TEXT_MAX]);

/* The header webhook-signature. False: out of memory. `timestamp_s`: since 1970. */
bool webhook_sign(const struct webhook_secret *secrets, unsigned count, struct bytes id, uint64_t timestamp_s, struct bytes body, char signature[SIGNATURE_MAX]);

enum webhook_verdict {
    WEBHOOK_GENUINE,
    WEBHOOK_UNSIGNED,                /* one of the three headers is missing, or is no such thing */
    WEBHOOK_STALE,                   /* its timestamp is too old, or lies ahead */
    WEBHOOK_FORGED,                  /* none of its signatures is the secret's */
};

/* Judges the three headers of a webhook; empty ones are missing. Takes the same time wherever signatures differ. */
enum webhook_verdict webhook_verify(const struct webhook_secret *secret, struct bytes id, struct bytes timestamp, struct bytes signature, struct bytes body, uint64_t now_s);

#endif
