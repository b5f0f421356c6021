#include "broker/users.h"

#include "broker/events.h"
#include "broker/worker_internal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define PASSWORD_MAX 1024u
#define SALT_SIZE 4u

static const EVP_MD *digest_of(enum password_hash hash)
{
    switch (hash) {
    case HASH_SHA512: return EVP_sha512();
    case HASH_MD5: return EVP_md5();
    default: return EVP_sha256();
    }
}

/* The digest of salt and password; 0: none could be made. */
static size_t digest(enum password_hash hash, const uint8_t salt[SALT_SIZE], struct bytes password, uint8_t out[EVP_MAX_MD_SIZE])
{
    uint8_t salted[SALT_SIZE + PASSWORD_MAX];
    unsigned size = 0;
    if (password.size > PASSWORD_MAX)
        return 0;
    memcpy(salted, salt, SALT_SIZE);
    if (password.size)
        memcpy(salted + SALT_SIZE, password.data, password.size);
    bool ok = EVP_Digest(salted, SALT_SIZE + password.size, out, &size, digest_of(hash), NULL);
    OPENSSL_cleanse(salted, sizeof(salted));
    return ok ? size : 0;
}

bool secret_make(const uint8_t salt[4], struct bytes password, uint8_t secret[SECRET_SIZE])
{
    uint8_t out[EVP_MAX_MD_SIZE];
    if (digest(HASH_SHA256, salt, password, out) != SECRET_SIZE - SALT_SIZE)
        return false;
    memcpy(secret, salt, SALT_SIZE);
    memcpy(secret + SALT_SIZE, out, SECRET_SIZE - SALT_SIZE);
    return true;
}

bool secret_matches(const struct user *user, struct bytes password)
{
    static const uint8_t nobody[SECRET_SIZE];
    bool usable = user && user->secret.size > SALT_SIZE;
    const uint8_t *expected = usable ? user->secret.data : nobody;
    size_t expected_size = usable ? user->secret.size : sizeof(nobody);
    uint8_t given[EVP_MAX_MD_SIZE];
    size_t size = digest(user ? user->hash : HASH_SHA256, expected, password, given);
    return size && size == expected_size - SALT_SIZE && CRYPTO_memcmp(given, expected + SALT_SIZE, size) == 0 && usable && password.size;
}

/* Guest may come from this machine only. */
static bool judge(struct client *client, struct bytes name, bool matches, bool from_loopback)
{
    bool success = matches && (from_loopback || !bytes_equal(name, bytes_of_text("guest")));
    event_authentication(client->worker, success, name, client->name);
    return success;
}

bool client_authenticate(struct client *client, struct bytes name, struct bytes password, bool from_loopback)
{
    const struct user *user = topology_user(&client->worker->topology, name);
    return judge(client, name, secret_matches(user, password), from_loopback);
}

enum gw_err client_restrict(struct client *client, struct bytes configure, struct bytes write, struct bytes read)
{
    const struct topology_change grant = {.kind = CHANGE_PERMISSION_PUT, .source = configure, .routing_key = write, .arguments = read};
    struct access *limits = access_new((struct bytes){0});
    enum gw_err err = limits ? access_grant(limits, &grant) : GW_ERR_NOMEM;
    if (err)
        access_free(limits);
    else
        client->limits = limits;
    return err;
}

bool client_limits_allow(const struct client *client, bool configure, struct bytes queue)
{
    return !client->limits || access_allows(client->limits, configure ? ACCESS_CONFIGURE : ACCESS_READ, queue);
}

bool client_identify(struct client *client, struct bytes name, bool from_loopback)
{
    return judge(client, name, topology_user(&client->worker->topology, name) != NULL, from_loopback);
}
