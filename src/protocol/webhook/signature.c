#include "protocol/webhook/signature.h"

#include "base/err.h"

#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>

#define PREFIX "whsec_"
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define DIGEST_SIZE 32u
#define DIGEST_TEXT_SIZE 44u         /* in base64 */

/* ---- secrets ---------------------------------------------------------------------------------------------------------- */

/* OpenSSL's decoder passes over spaces and takes padding for data, so that is seen to here. */
static bool is_base64(struct bytes text)
{
    size_t padding = 0;
    if (!text.size || text.size % 4)
        return false;
    while (padding < 2 && text.data[text.size - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text.size - padding; i++) {
        uint8_t c = text.data[i];
        if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '+' && c != '/')
            return false;
    }
    return true;
}

bool webhook_secret_read(struct bytes text, struct webhook_secret *secret)
{
    uint8_t room[SECRET_TEXT_MAX];
    if (text.size >= PREFIX_SIZE && memcmp(text.data, PREFIX, PREFIX_SIZE) == 0)
        text = bytes_of(text.data + PREFIX_SIZE, text.size - PREFIX_SIZE);
    if (text.size >= SECRET_TEXT_MAX || !is_base64(text))
        return false;
    int size = EVP_DecodeBlock(room, text.data, (int)text.size);
    size -= (text.data[text.size - 1] == '=') + (text.data[text.size - 2] == '=');
    if (size < (int)SECRET_KEY_MIN || size > (int)SECRET_KEY_MAX)
        return false;
    *secret = (struct webhook_secret){.size = (size_t)size};
    memcpy(secret->key, room, secret->size);
    return true;
}

void webhook_secret_write(const uint8_t *key, size_t size, char text[SECRET_TEXT_MAX])
{
    CHECK(size >= SECRET_KEY_MIN && size <= SECRET_KEY_MAX);
    memcpy(text, PREFIX, PREFIX_SIZE);
    EVP_EncodeBlock((uint8_t *)text + PREFIX_SIZE, key, (int)size);
}

/* ---- signatures ------------------------------------------------------------------------------------------------------- */

/* `prefix`: "ID.TIMESTAMP." in three pieces. */
static bool digest(const struct webhook_secret *secret, struct bytes id, struct bytes timestamp, struct bytes body, char text[DIGEST_TEXT_SIZE + 1])
{
    uint8_t sum[DIGEST_SIZE];
    size_t size = 0;
    char name[] = "SHA256";
    const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0), OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;
    static const uint8_t dot[1] = {'.'}, nothing[1] = {0};
    bool done = context && EVP_MAC_init(context, secret->key, secret->size, parameters) && EVP_MAC_update(context, id.size ? id.data : nothing, id.size) &&
                EVP_MAC_update(context, dot, 1) && EVP_MAC_update(context, timestamp.size ? timestamp.data : nothing, timestamp.size) &&
                EVP_MAC_update(context, dot, 1) && EVP_MAC_update(context, body.size ? body.data : nothing, body.size) &&
                EVP_MAC_final(context, sum, &size, sizeof(sum)) && size == sizeof(sum);
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    if (done)
        EVP_EncodeBlock((uint8_t *)text, sum, sizeof(sum));
    return done;
}

bool webhook_sign(const struct webhook_secret *secrets, unsigned count, struct bytes id, uint64_t timestamp_s, struct bytes body, char signature[SIGNATURE_MAX])
{
    char time[24], text[DIGEST_TEXT_SIZE + 1];
    size_t used = 0;
    CHECK(count <= SECRETS_MAX);
    signature[0] = 0;
    snprintf(time, sizeof(time), "%" PRIu64, timestamp_s);
    for (unsigned i = 0; i < count; i++) {
        if (!digest(&secrets[i], id, bytes_of_text(time), body, text))
            return false;
        used += (size_t)snprintf(signature + used, SIGNATURE_MAX - used, "%sv1,%s", i ? " " : "", text);
    }
    return true;
}

static bool read_time(struct bytes text, uint64_t *seconds)
{
    *seconds = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *seconds = *seconds * 10 + (text.data[i] - '0');
    }
    return text.size > 0 && text.size <= 15;
}

enum webhook_verdict webhook_verify(const struct webhook_secret *secret, struct bytes id, struct bytes timestamp, struct bytes signature, struct bytes body, uint64_t now_s)
{
    char wanted[DIGEST_TEXT_SIZE + 1];
    uint64_t seconds;
    bool found = false;
    if (!id.size || !read_time(timestamp, &seconds) || !signature.size || !digest(secret, id, timestamp, body, wanted))
        return WEBHOOK_UNSIGNED;
    if (seconds + SIGNATURE_TOLERANCE_S < now_s || seconds > now_s + SIGNATURE_TOLERANCE_S)
        return WEBHOOK_STALE;
    for (size_t at = 0; at < signature.size;) {
        const uint8_t *space = memchr(signature.data + at, ' ', signature.size - at);
        size_t size = space ? (size_t)(space - signature.data) - at : signature.size - at;
        const uint8_t *one = signature.data + at;
        found |= size == 3 + DIGEST_TEXT_SIZE && memcmp(one, "v1,", 3) == 0 && CRYPTO_memcmp(one + 3, wanted, DIGEST_TEXT_SIZE) == 0;
        at += size + 1;
    }
    return found ? WEBHOOK_GENUINE : WEBHOOK_FORGED;
}
