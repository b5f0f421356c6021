/* A libFuzzer target: URLs, lists of networks, addresses, secrets and signatures. An address that stands in a URL is the one that the host is read as; what was signed is genuine. */
#include "protocol/webhook/signature.h"
#include "protocol/webhook/url.h"
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = bytes_of(data, size), wrong;
    struct sink_url url;
    struct ip_networks networks = {0};
    struct ip_address address;
    struct webhook_secret secret;
    char why[URL_WHY_MAX], signature[SIGNATURE_MAX];
    if (sink_url_read(input, &url, why)) {
        CHECK(url.host[0] && url.port && url.target.data + url.target.size == data + size);
        CHECK(ip_address_read(bytes_of_text(url.host), &address) == url.is_address);
    }
    if (ip_networks_read(input, &networks, &wrong))
        CHECK(networks.count > 0 && ip_networks_have(&networks, &networks.items[0].address));
    else
        CHECK(wrong.size <= size);
    if (ip_address_read(input, &address)) {
        networks.count = 0;
        ip_address_refusal(&address, &networks);
    }
    if (webhook_secret_read(input, &secret)) {
        CHECK(secret.size >= SECRET_KEY_MIN && secret.size <= SECRET_KEY_MAX);
        CHECK(webhook_sign(&secret, 1, bytes_of_text("1"), 7, input, signature));
        CHECK(webhook_verify(&secret, bytes_of_text("1"), bytes_of_text("7"), bytes_of_text(signature), input, 7) == WEBHOOK_GENUINE);
        webhook_verify(&secret, bytes_of_text("1"), bytes_of_text("7"), input, input, 7);
    }
    return 0;
}
