/* The Redis in memory (support_redis_model.h) says what a real server says, call by call, of
 * whatever the domain asks in a long walk through it. Without a redis-server nothing is compared.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "record.h"
#include "redis/protocol/command.h"
#include "redis/protocol/reply.h"
#include "session/index/index.h"
#include "support_run.h"
#include "support_session.h"

enum { PATIENCE_MS = 20000, WORDS_MOST = 8192 };

static pid_t server;
static int line = -1;
static struct reply_reader theirs;
static size_t compared;

/* --- the server --- */

static void start_server(void)
{
    char socket_path[128];
    snprintf(socket_path, sizeof(socket_path), "%s/redis", rig.directory);
    server = fork();
    ck_assert_int_ge(server, 0);
    if (server > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stdout));
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--save", "",
           "--dir", rig.directory, (char *)NULL);
    _exit(127);
}

static bool connect_once(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/redis", rig.directory);
    line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(line, (struct sockaddr *)&address, sizeof(address)) == 0)
        return true;
    close(line);
    line = -1;
    return false;
}

/* False if there is no server to be had here. */
static bool reach_server(void)
{
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms += 10) {
        if (connect_once())
            return true;
        if (waitpid(server, NULL, WNOHANG) == server) {
            server = 0;
            return false;
        }
        usleep(10000);
    }
    ck_abort_msg("redis-server does not come up");
    return false;
}

static void stop_server(void)
{
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    if (line >= 0)
        close(line);
}

/* Until the reader is asked again. */
static const struct store_reply *ask(const struct text *words, size_t count)
{
    const struct store_reply *reply;
    struct buffer command = {0};
    char input[65536];
    command_append(&command, words, count);
    ck_assert_int_eq(send(line, command.data, command.length, 0), (ssize_t)command.length);
    buffer_free(&command);
    reply_reader_release(&theirs);
    while (reply_reader_next(&theirs, &reply) == REPLY_INCOMPLETE) {
        ssize_t length = recv(line, input, sizeof(input), 0);
        ck_assert_int_gt(length, 0);
        ck_assert(reply_reader_feed(&theirs, input, (size_t)length));
    }
    return reply;
}

static int64_t ask_number(struct text command, struct text key)
{
    int64_t number = -3;
    const struct text words[] = {command, key};
    ck_assert(store_reply_int(ask(words, 2), INT64_MIN, INT64_MAX, &number));
    return number;
}

/* --- comparing --- */

static void assert_same_text(const char *name, struct text ours, struct text real)
{
    ck_assert_msg(text_equal(ours, real), "%s: \"%.*s\", but Redis says \"%.*s\"", name,
                  (int)ours.length, ours.data ? ours.data : "", (int)real.length,
                  real.data ? real.data : "");
}

static void assert_same(const char *name, const struct store_reply *ours,
                        const struct store_reply *real);

static void assert_same_elements(const char *name, const struct store_reply *ours,
                                 const struct store_reply *real)
{
    for (size_t i = 0; i < ours->count; i++)
        assert_same(name, ours->elements[i], real->elements[i]);
}

static const struct store_reply *value_in(const struct store_reply *hash, struct text field)
{
    for (size_t i = 0; i + 1 < hash->count; i += 2)
        if (text_equal(hash->elements[i]->text, field))
            return hash->elements[i + 1];
    ck_abort_msg("Redis does not tell a field");
    return NULL;
}

/* Fields of a hash come in any order. Marks of keys have the server's time after a blank. */
static void assert_same_hash(const char *name, const struct store_reply *ours,
                             const struct store_reply *real, bool marks)
{
    for (size_t i = 0; i + 1 < ours->count; i += 2) {
        struct text mine = ours->elements[i + 1]->text;
        struct text value = value_in(real, ours->elements[i]->text)->text;
        if (marks) {
            mine = text_take(&mine, ' ');
            value = text_take(&value, ' ');
        }
        assert_same_text(name, mine, value);
    }
}

static void assert_same(const char *name, const struct store_reply *ours,
                        const struct store_reply *real)
{
    ck_assert_msg(!real->is_error, "%s: Redis says %.*s", name, (int)real->text.length,
                  real->text.data);
    ck_assert_msg(ours->type == real->type, "%s: type %d, but Redis has %d", name, ours->type,
                  real->type);
    ck_assert_msg(ours->count == real->count, "%s: %zu elements, but Redis has %zu", name,
                  ours->count, real->count);
    ck_assert_msg(ours->integer == real->integer, "%s: %lld, but Redis says %lld", name,
                  (long long)ours->integer, (long long)real->integer);
    bool marks = strstr(name, "marks") != NULL;
    if (ours->type == STORE_ARRAY &&
        (marks || strstr(name, "HGETALL") || strcmp(name, "write") == 0))
        assert_same_hash(name, ours, real, marks);
    else if (ours->type == STORE_ARRAY)
        assert_same_elements(name, ours, real);
    else
        assert_same_text(name, ours->text, real->text);
}

/* The server's clock goes on while ours stands: how far it was ahead of ours at most. */
static int64_t most_ahead(void)
{
    static int64_t most_ms;
    const struct text time[] = {TEXT("TIME")};
    int64_t server_s = 0;
    ck_assert(store_reply_int(ask(time, 1)->elements[0], 0, STORED_S_MAX, &server_s));
    int64_t ahead_ms = (server_s + 1) * 1000 - clock_wall_ms();
    most_ms = ahead_ms > most_ms ? ahead_ms : most_ms;
    return most_ms;
}

/* The server expires keys by its own clock: later by as much, and never earlier. */
static void assert_same_expiry(const char *name, struct text key)
{
    int64_t ours = redis_model_expiry(rig.redis, key), ahead_ms = most_ahead();
    int64_t real = ask_number(TEXT("PEXPIRETIME"), key);
    if (!redis_model_has(rig.redis, key))
        ck_assert_msg(real == -2, "%s: Redis has a key that is none", name);
    else if (ours == 0)
        ck_assert_msg(real == -1, "%s: the key expires in Redis", name);
    else
        ck_assert_msg(real >= ours && real <= ours + ahead_ms,
                      "%s: expires at %lld, in Redis at %lld", name, (long long)ours,
                      (long long)real);
}

static void compare(const struct store_script *script, struct text key,
                    const struct text *arguments, size_t count, const struct buffer *bytes)
{
    static struct text words[WORDS_MOST];
    const struct store_reply *reply;
    struct reply_reader ours = {0};
    char name[64];
    size_t said = 0;
    snprintf(name, sizeof(name), "%s%s", redis_model_name(script, arguments),
             key.length >= 4 && memcmp(key.data, "sd:k", 4) == 0 ? " marks" : "");
    if (script) {
        words[said++] = TEXT("EVAL");
        words[said++] = text_of(script->source);
        words[said++] = TEXT("1");
        words[said++] = key;
    }
    ck_assert_uint_lt(said + count, WORDS_MOST);
    memcpy(words + said, arguments, count * sizeof(*words));
    reply_reader_open(&ours);
    ck_assert(reply_reader_feed(&ours, bytes->data, bytes->length));
    ck_assert_int_eq(reply_reader_next(&ours, &reply), REPLY_READY);
    assert_same(name, reply, ask(words, said + count));
    reply_reader_close(&ours);
    assert_same_expiry(name, key);
    compared++;
}

/* --- the walk --- */

static struct rig_node *node, *other;

static void login_elsewhere(void)
{
    rig_login(other, "alice");
}

static void walk_sessions(void)
{
    struct rig_session session = rig_login(node, "alice"), second = rig_login(node, "alice");
    ck_assert_int_eq(rig_validate(node, &session), ERR_OK);
    clock_fake_pass(900000);
    struct act *act = act_of(node);
    act->validate.token = rig_access(&session);
    act->validate.touch = true;
    act->validate.max_age_s = -1;
    session_validate(&act->validate);
    ck_assert_act(act, ERR_OK);
    ck_assert_act(act_refresh(node, rig_refresh(&session)), ERR_OK);
    clock_fake_pass(31000);
    rig_plan_after("write", FATE_ANSWER, login_elsewhere);
    ck_assert_act(act_kick(node, "alice", rig_id(&second)), ERR_OK);
    ck_assert_act(act_refresh(node, rig_refresh(&session)), ERR_REFRESH_INVALID);
    ck_assert_act(act_logout_all(node, "alice"), ERR_OK);
    ck_assert_act(act_freeze(node, "alice", false), ERR_OK);
    ck_assert_act(act_freeze(node, "alice", true), ERR_OK);
    rig_login(node, "alice");
}

static void change_elsewhere(void)
{
    ck_assert_act(act_policy(other, "{\"idle_timeout\":88}"), ERR_OK);
}

static void walk_tenant(void)
{
    rig_plan_after("tenant-write", FATE_ANSWER, change_elsewhere);
    ck_assert_act(act_policy(node, "{\"quota\":{\"users\":5,\"sessions\":50}}"), ERR_OK);
    rig_login(node, "bob");
    ck_assert_act(act_freeze(node, "carol", false), ERR_OK);
    ck_assert_act(act_logout_all(node, "bob"), ERR_OK);
    struct act *act = act_of(node);
    act->users.tenant = RIG_TENANT;
    act->users.page_size = 10;
    session_list_tenant(&act->users);
    ck_assert_act(act, ERR_OK);
    ck_assert_act(act_end_tenant(node), ERR_OK);
}

static struct act *answer(const struct offered_challenge *challenge, struct text code)
{
    struct act *act = act_of(node);
    act->verify.challenge_id = (struct text){challenge->id, TOKEN_LENGTH};
    act->verify.code = code;
    session_verify(&act->verify);
    return act;
}

static void walk_challenge(void)
{
    ck_assert_act(act_policy(node, "{\"verify\":{\"on\":[\"new_device\"],\"method\":\"otp\"}}"),
                  ERR_OK);
    clock_fake_pass(2000); /* behind the cutoff */
    struct act *act = act_login(node, "dora", "first");
    ck_assert_act(act, ERR_VERIFICATION_REQUIRED);
    struct text code = {act->base.out.challenge->code, CHALLENGE_CODE};
    ck_assert_act(answer(act->base.out.challenge, TEXT("12345x")), ERR_VERIFICATION_FAILED);
    ck_assert_act(answer(act->base.out.challenge, code), ERR_OK);
    ck_assert_act(answer(act->base.out.challenge, code), ERR_CHALLENGE_OVER);
}

/* So many users that the root of the tenant's index is given up. */
static void walk_crowd(void)
{
    char user[16];
    ck_assert_act(act_policy(node, "{}"), ERR_OK);
    for (unsigned i = 0; i < INDEX_ROOT_MOST + 2; i++) {
        snprintf(user, sizeof(user), "user%u", i);
        rig_login(node, user);
    }
    rig_login(other, "alice"); /* whose node does not know yet */
}

START_TEST(what_the_model_says_redis_says)
{
    rig_set_up();
    clock_fake(0);
    clock_fake(clock_wall_ms());
    start_server();
    if (reach_server()) {
        reply_reader_open(&theirs);
        rig.mirror = compare;
        node = rig_start(0);
        other = rig_start(1);
        walk_sessions();
        walk_tenant();
        walk_challenge();
        walk_crowd();
        ck_assert_uint_gt(compared, 100);
        reply_reader_close(&theirs);
    }
    rig_tear_down();
    stop_server();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("redis_model");
    TCase *tcase = tcase_create("redis_model");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_the_model_says_redis_says);
    suite_add_tcase(suite, tcase);
    return support_run(suite);
}
