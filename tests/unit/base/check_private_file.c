/* Secret files: one rule for their readers and their paths. (That keys, passwords, TLS and the
 * webhook follow it is in check_keyring, check_store_credentials, check_store_tls, check_alerts.)
 */
#include "private_file.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support_run.h"

#define OPTION "redis.password_file"

static char directory[64], path[128];
static struct buffer error;

static void setup(void)
{
    unsetenv("CREDENTIALS_DIRECTORY");
    snprintf(directory, sizeof(directory), "/tmp/sessiond-check-secret-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/secret", directory);
}

static void teardown(void)
{
    buffer_free(&error);
    unlink(path);
    rmdir(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static void write_file(const char *content, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

static bool read_line(const char *value, char out[16], struct text *line)
{
    error.length = 0;
    bool read = private_file_read_line(OPTION, value, out, 16, line, &error);
    buffer_add_char(&error, '\0');
    return read;
}

static void assert_reads(const char *value, const char *expected)
{
    char out[16];
    struct text line;
    ck_assert_msg(read_line(value, out, &line), "%s", error.data);
    ck_assert(text_equal(line, text_of(expected)));
}

/* Refused in one line that names option and file and says why, without the secret. */
static void assert_refused(const char *value, const char *why)
{
    char out[16];
    struct text line;
    ck_assert(!read_line(value, out, &line));
    ck_assert_msg(strncmp(error.data, OPTION ": ", sizeof(OPTION ": ") - 1) == 0, "%s", error.data);
    ck_assert_msg(strstr(error.data, value) != NULL, "%s", error.data);
    ck_assert_msg(strstr(error.data, why) != NULL, "%s lacks %s", error.data, why);
    ck_assert_ptr_eq(strchr(error.data, '\n'), error.data + strlen(error.data) - 1);
    ck_assert_ptr_null(strstr(error.data, "hunter2"));
}

/* --- Who may read it ------------------------------------------------------------------------- */

enum { SERVICE = 65534 };

/* Runs the service as a user of its own, as far as this process may; `owner` then has the file.
 * False if that is impossible. */
static bool become_service(uid_t owner)
{
    if (geteuid() != 0)
        return owner != 0;
    ck_assert_int_eq(chmod(directory, 0755), 0);
    ck_assert_int_eq(chown(path, owner, SERVICE), 0);
    ck_assert_int_eq(setegid(SERVICE), 0);
    ck_assert_int_eq(seteuid(SERVICE), 0);
    return true;
}

static void become_root(void)
{
    if (getuid() == 0) {
        ck_assert_int_eq(seteuid(0), 0);
        ck_assert_int_eq(setegid(0), 0);
    }
}

static const struct {
    mode_t mode;
    bool own, of_root, credential;
} modes[] = {
    {0600, true, false, true},   {0400, true, false, true},   {0700, true, false, true},
    {0440, false, true, true},   {0640, false, true, true},   {0460, false, false, false},
    {0660, false, false, false}, {0610, false, false, false}, {0604, false, false, false},
    {0444, false, false, false}, {0602, false, false, false}, {0601, false, false, false},
    {0644, false, false, false}, {0666, false, false, false},
};

/* `good` or refused, and if so with the mode found and those allowed. */
static void assert_mode(mode_t mode, bool good)
{
    char found[32];
    snprintf(found, sizeof(found), "mode %04o", mode);
    if (good) {
        assert_reads(path, "hunter2");
        return;
    }
    assert_refused(path, found);
    assert_refused(path, "chmod 0600 or 0400 (0640 or 0440 if root owns it, or as a systemd "
                         "credential)");
}

START_TEST(a_file_of_the_service_s_user_is_closed_to_all_others)
{
    write_file("hunter2\n", modes[_i].mode);
    if (become_service(SERVICE))
        assert_mode(modes[_i].mode, modes[_i].own);
    become_root();
}
END_TEST

START_TEST(a_file_of_root_may_be_read_by_its_group)
{
    write_file("hunter2\n", modes[_i].mode);
    bool readable = (modes[_i].mode & S_IRGRP) != 0;
    if (become_service(0)) {
        if (readable)
            assert_mode(modes[_i].mode, modes[_i].of_root);
        else
            assert_refused(path, "the service's user (65534) may not read it; hand it over as a "
                                 "systemd credential (LoadCredential=)");
    }
    become_root();
}
END_TEST

START_TEST(a_credential_may_show_its_group_reading)
{
    write_file("hunter2\n", modes[_i].mode);
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    if (become_service(SERVICE))
        assert_mode(modes[_i].mode, modes[_i].credential);
    become_root();
}
END_TEST

START_TEST(a_file_beside_the_credentials_is_none)
{
    char parent[sizeof(directory)];
    snprintf(parent, sizeof(parent), "%s", directory);
    parent[strlen(parent) - 1] = '\0'; /* a prefix of the path, but no directory of it */
    write_file("hunter2\n", 0440);
    setenv("CREDENTIALS_DIRECTORY", parent, 1);
    if (become_service(SERVICE))
        assert_mode(0440, false);
    become_root();
}
END_TEST

START_TEST(a_stranger_s_file_is_refused_with_its_owner_and_whose_it_must_be)
{
    write_file("hunter2\n", 0640);
    if (become_service(1)) {
        assert_refused(path,
                       "owned by user 1; must be owned by the service's user (65534) or root");
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        assert_refused(path, "owned by user 1");
    }
    become_root();
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused)
{
    ck_assert_int_eq(_i ? mkfifo(path, 0600) : mkdir(path, 0700), 0);
    assert_refused(path, "not a regular file");
}
END_TEST

/* --- Where it is ----------------------------------------------------------------------------- */

START_TEST(a_name_without_a_slash_is_a_credential)
{
    write_file("hunter2\n", 0400);
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
    assert_reads("secret", "hunter2");
    assert_refused("missing", "No such file");
    ck_assert_int_eq(chmod(path, 0644), 0);
    assert_refused("secret", "mode 0644");
    ck_assert_ptr_nonnull(strstr(error.data, path));
}
END_TEST

START_TEST(a_credential_without_credentials_says_who_hands_them_over)
{
    write_file("hunter2\n", 0400);
    assert_refused("secret", "LoadCredential=");
    setenv("CREDENTIALS_DIRECTORY", "", 1);
    assert_refused("secret", "LoadCredential=");
    ck_assert_int_eq(chdir(directory), 0);
    assert_refused("secret", "LoadCredential=");
    assert_reads("./secret", "hunter2");
}
END_TEST

/* --- What is in it --------------------------------------------------------------------------- */

START_TEST(the_first_line_is_the_secret)
{
    static const char *const contents[] = {"hunter2", "hunter2\n", "hunter2\r\n", "hunter2\n#\n",
                                           "\xEF\xBB\xBFhunter2\n"};
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        write_file(contents[i], 0600);
        assert_reads(path, "hunter2");
    }
    write_file("\nhunter2\n", 0600);
    assert_refused(path, "empty");
    write_file("", 0600);
    assert_refused(path, "empty");
}
END_TEST

START_TEST(a_secret_that_has_no_room_is_refused_not_cut)
{
    write_file("hunter2hunter2!", 0600); /* 15 bytes and the NUL */
    assert_reads(path, "hunter2hunter2!");
    write_file("hunter2hunter2!\n", 0600);
    assert_refused(path, "larger than 15 bytes");
    char whole[15];
    size_t length;
    write_file("hunter2hunter2!", 0600);
    error.length = 0;
    ck_assert(private_file_read(OPTION, path, whole, sizeof(whole), &length, &error));
    ck_assert_mem_eq(whole, "hunter2hunter2!", 15);
    ck_assert(!private_file_read(OPTION, path, whole, 14, &length, &error));
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int main(void)
{
    Suite *suite = suite_create("private_file");
    TCase *cases = tcase_create("secret files");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_loop_test(cases, a_file_of_the_service_s_user_is_closed_to_all_others, 0,
                        ROWS(modes));
    tcase_add_loop_test(cases, a_file_of_root_may_be_read_by_its_group, 0, ROWS(modes));
    tcase_add_loop_test(cases, a_credential_may_show_its_group_reading, 0, ROWS(modes));
    tcase_add_test(cases, a_file_beside_the_credentials_is_none);
    tcase_add_test(cases, a_stranger_s_file_is_refused_with_its_owner_and_whose_it_must_be);
    tcase_add_loop_test(cases, what_is_no_regular_file_is_refused, 0, 2);
    tcase_add_test(cases, a_name_without_a_slash_is_a_credential);
    tcase_add_test(cases, a_credential_without_credentials_says_who_hands_them_over);
    tcase_add_test(cases, the_first_line_is_the_secret);
    tcase_add_test(cases, a_secret_that_has_no_room_is_refused_not_cut);
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
