/* Locks of files: held against other processes over renames, reported with their pids. */
#include "file_locks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support_run.h"

static char directory[64], paths[4][80];
static struct conf conf;
static struct file_locks *locks;
static struct buffer error;

static void setup(void)
{
    static const char *const names[4] = {"audit.log", "journal", "alerts", "cache"};
    snprintf(directory, sizeof(directory), "/tmp/check_locks.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    for (size_t i = 0; i < 4; i++)
        snprintf(paths[i], sizeof(paths[i]), "%s/%s", directory, names[i]);
    conf = (struct conf){.audit_file = paths[0],
                         .journal_file = paths[1],
                         .alerts_file = paths[2],
                         .cache_snapshot = paths[3]};
}

static void teardown(void)
{
    char command[96];
    file_locks_release(&locks);
    buffer_free(&error);
    snprintf(command, sizeof(command), "rm -r %s", directory);
    ck_assert_int_eq(system(command), 0);
}

static void make_file(const char *path)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fclose(file);
}

static void take(void)
{
    locks = file_locks_take(&conf, &error);
    ck_assert_msg(locks != NULL, "%.*s", (int)error.length, error.data);
}

/* The error for another process on the same files, "" if it may have them. */
static const char *tell_another(void)
{
    static char told[1024];
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct buffer why = {0};
        struct file_locks *taken = file_locks_take(&conf, &why);
        bool wrote = write(ends[1], why.data, why.length) == (ssize_t)why.length;
        _exit(wrote && (taken == NULL) == (why.length > 0) ? 0 : 1);
    }
    close(ends[1]);
    size_t length = 0;
    ssize_t count;
    while ((count = read(ends[0], told + length, sizeof(told) - 1 - length)) > 0)
        length += (size_t)count;
    told[length] = '\0';
    close(ends[0]);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    return told;
}

START_TEST(another_process_is_told_whose_each_file_is)
{
    char expected[512];
    take();
    for (size_t i = 0; i < 4; i++) {
        snprintf(expected, sizeof(expected), "file %s is in use by process %d", paths[i], getpid());
        ck_assert_ptr_nonnull(strstr(tell_another(), expected));
    }
    file_locks_release(&locks);
    ck_assert_str_eq(tell_another(), "");
}
END_TEST

/* As one with the journal of another node, and all else of its own. */
START_TEST(one_file_of_another_node_is_enough)
{
    char others[3][96];
    take();
    char **files[3] = {&conf.audit_file, &conf.alerts_file, &conf.cache_snapshot};
    for (size_t i = 0; i < 3; i++) {
        snprintf(others[i], sizeof(others[i]), "%s.other", *files[i]);
        *files[i] = others[i];
    }
    const char *told = tell_another();
    ck_assert_ptr_nonnull(strstr(told, paths[1]));
    ck_assert_ptr_null(strstr(told, ".other"));
    conf.journal_file = paths[3];
    ck_assert_ptr_nonnull(strstr(tell_another(), paths[3]));
}
END_TEST

START_TEST(a_lock_holds_while_the_file_is_renamed_removed_and_made_anew)
{
    char rotated[96];
    make_file(paths[0]);
    take();
    snprintf(rotated, sizeof(rotated), "%s.1", paths[0]);
    ck_assert_int_eq(rename(paths[0], rotated), 0);
    ck_assert_ptr_nonnull(strstr(tell_another(), paths[0]));
    make_file(paths[0]);
    ck_assert_ptr_nonnull(strstr(tell_another(), paths[0]));
    ck_assert_int_eq(unlink(paths[0]), 0);
    ck_assert_ptr_nonnull(strstr(tell_another(), paths[0]));
}
END_TEST

START_TEST(the_same_file_twice_is_refused)
{
    char again[96];
    snprintf(again, sizeof(again), "%s/./journal", directory);
    conf.alerts_file = again;
    ck_assert_ptr_null(file_locks_take(&conf, &error));
    buffer_add_char(&error, '\0');
    ck_assert_ptr_nonnull(strstr(error.data, "./journal is the journal file as well"));
    conf.alerts_file = paths[2];
    ck_assert_str_eq(tell_another(), ""); /* nothing is held any more */
}
END_TEST

static int count_files(void)
{
    char command[96];
    int count = -1;
    snprintf(command, sizeof(command), "ls -A %s | wc -l", directory);
    FILE *out = popen(command, "r");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(fscanf(out, "%d", &count), 1);
    pclose(out);
    return count;
}

/* Two nodes may write into one pipe, each has its own standard output, and a cache without a
 * snapshot has no file. */
START_TEST(what_is_no_file_is_not_locked)
{
    ck_assert_int_eq(mkfifo(paths[0], 0600), 0);
    conf.journal_file = "/dev/null";
    conf.alerts_file = "/dev/stdout";
    conf.cache_snapshot = "";
    ck_assert_ptr_nonnull(freopen(paths[1], "w", stdout));
    take();
    ck_assert_str_eq(tell_another(), "");
    ck_assert_int_eq(count_files(), 2);
    ck_assert_int_ne(access("/dev/.stdout.lock", F_OK), 0);
}
END_TEST

START_TEST(a_missing_directory_is_left_to_who_opens_the_file)
{
    char nowhere[96];
    snprintf(nowhere, sizeof(nowhere), "%s/none/alerts", directory);
    conf.alerts_file = nowhere;
    take();
    ck_assert_ptr_nonnull(strstr(tell_another(), paths[0]));
}
END_TEST

START_TEST(a_lock_is_an_empty_file_of_its_owner_alone)
{
    char lock[96];
    struct stat status;
    umask(0);
    take();
    snprintf(lock, sizeof(lock), "%s/.audit.log.lock", directory);
    ck_assert_int_eq(lstat(lock, &status), 0);
    ck_assert_uint_eq(status.st_mode, S_IFREG | 0600);
    ck_assert_int_eq(status.st_size, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_locks");
    TCase *cases = tcase_create("locks");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, another_process_is_told_whose_each_file_is);
    tcase_add_test(cases, one_file_of_another_node_is_enough);
    tcase_add_test(cases, a_lock_holds_while_the_file_is_renamed_removed_and_made_anew);
    tcase_add_test(cases, the_same_file_twice_is_refused);
    tcase_add_test(cases, what_is_no_file_is_not_locked);
    tcase_add_test(cases, a_missing_directory_is_left_to_who_opens_the_file);
    tcase_add_test(cases, a_lock_is_an_empty_file_of_its_owner_alone);
    suite_add_tcase(suite, cases);
    return support_run(suite);
}
