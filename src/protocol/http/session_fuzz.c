/* A libFuzzer target: a session under arbitrary input, in pieces whose size the first octet says; the second says whether HTTP/2's preface comes first, and
 * whether it was agreed that it would. */
#include "protocol/http/fake_service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    struct fake fake;
    if (size < 2)
        return 0;
    fake_open(&fake);
    if (data[1] & 2)
        http_session_agreed_2(fake.session);
    if (data[1] & 1)
        fake_feed(&fake, preface, sizeof(preface) - 1, 0);
    fake_feed(&fake, data + 2, size - 2, data[0]);
    if (fake.waiting)
        fake_reply(&fake, "late");
    fake.now_us += (uint64_t)data[1] * 500000;
    http_session_tick(fake.session, fake.now_us);
    fake_turn(&fake);
    http_session_ended(fake.session, fake.now_us);
    fake_turn(&fake);
    fake_close(&fake);
    return 0;
}
