#include "broker/users.h"

#include "broker/worker_internal.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#define PASSWORD_MAX 1024u

bool secret_make(const uint8_t salt[4], struct bytes password, uint8_t secret[SECRET_SIZE])
{
    uint8_t salted[4 + PASSWORD_MAX];
    if (password.size > PASSWORD_MAX)
        return false;
    memcpy(salted, salt, 4);
    if (password.size)
        memcpy(salted + 4, password.data, password.size);
    memcpy(secret, salt, 4);
    bool ok = SHA256(salted, 4 + password.size, secret + 4) != NULL;
    OPENSSL_cleanse(salted, sizeof(salted));
    return ok;
}

bool secret_matches(const struct user *user, struct bytes password)
{
    static const uint8_t nobody[SECRET_SIZE];
    const uint8_t *expected = user ? user->secret : nobody;
    uint8_t given[SECRET_SIZE];
    if (!secret_make(expected, password, given))
        return false;
    return CRYPTO_memcmp(given, expected, SECRET_SIZE) == 0 && user;
}

bool client_authenticate(struct client *client, struct bytes name, struct bytes password, bool from_loopback)
{
    const struct user *user = topology_user(&client->worker->topology, name);
    bool matches = secret_matches(user, password);
    bool guest = bytes_equal(name, bytes_of_text("guest"));
    return matches && (from_loopback || !guest);
}
