# sessiond: `make run` and `make check` do everything on a fresh Debian 12; `make help` lists the rest.
#
# BUILD=dir builds elsewhere, LAYERS="base redis" builds the library of some layers only, V=1 shows
# the commands. The build rules come first, the targets around them after.

BUILD  ?= build
LAYERS ?= base redis services session http
CC     ?= gcc
PREFIX ?= /usr/local
Q      := $(if $(V),,@)

PACKAGES := libmicrohttpd gnutls hiredis libuv jansson libsodium libssl libcrypto libsystemd inih libcurl libmaxminddb

WARNINGS := -Wall -Wextra -Wshadow -Wformat=2 -Werror=format-security -Wconversion -Wsign-conversion \
            -Wtrampolines -Wimplicit-fallthrough -Wstrict-prototypes -Wmissing-prototypes \
            -Werror=implicit -Werror=incompatible-pointer-types -Werror=int-conversion -Werror
HARDEN   := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-clash-protection -fstack-protector-strong \
            -fcf-protection=full -ftrivial-auto-var-init=zero -fno-delete-null-pointer-checks \
            -fno-strict-overflow -fno-strict-aliasing
LINKHARD := -pie -Wl,-z,nodlopen -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,--as-needed \
            -Wl,--no-copy-dt-needed-entries
OPTIMIZE ?= -O3 -g
SANITIZE ?=
# The daemon is optimised as a whole, worth a tenth of its time; tests link the plain code in the same objects.
LTO      := $(if $(SANITIZE),,-flto=auto -ffat-lto-objects)

VERSION  := 0.1.0
REVISION := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

CPPFLAGS += -D_GNU_SOURCE -DSESSIOND_VERSION='"$(VERSION)"' -DSESSIOND_REVISION='"$(REVISION)"' \
            -Iinclude -Isrc $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
CFLAGS   += -std=c11 $(OPTIMIZE) $(WARNINGS) $(if $(SANITIZE),$(SANITIZE),$(HARDEN)) $(LTO) \
            -fPIE -pthread
LDFLAGS  += $(LINKHARD) $(SANITIZE) -pthread
LDLIBS   += $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

SOURCES := $(foreach layer,$(LAYERS),$(wildcard src/$(layer)/*.c src/$(layer)/*/*.c))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(if $(filter http,$(LAYERS)),$(BUILD)/openapi_json.o)
LIBRARY := $(BUILD)/libsessiond.a
DAEMON  := $(BUILD)/sessiond

.DEFAULT_GOAL := all
.PHONY: all
all: $(DAEMON)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The description of the HTTP interface, which the daemon serves.
$(BUILD)/openapi_json.c: docs/openapi.yaml tests/support/openapi_document.py
	@mkdir -p $(@D)
	@echo "  YAML  $<"
	$(Q)$(PYTHON) tests/support/openapi_document.py $< >$@.new && mv $@.new $@

$(BUILD)/openapi_json.o: $(BUILD)/openapi_json.c src/http/api/openapi.h
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Those that tell version and revision are compiled again when these change.
$(BUILD)/revision: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION) $(REVISION)' | cmp -s - $@ || echo '$(VERSION) $(REVISION)' >$@
$(patsubst %.c,$(BUILD)/%.o,$(shell grep -rls --include=*.c 'SESSIOND_[RV]E' src tests)): $(BUILD)/revision
.PHONY: FORCE

$(LIBRARY): $(OBJECTS)
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar qcs $@ $^

$(DAEMON): $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/main/*.c)) $(LIBRARY)
	@echo "  LINK  $@"
	$(Q)$(CC) $(OPTIMIZE) $(LTO) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Unit tests: tests/unit/<layer>/check_<module>.c, each a program of its own.
CHECK_SOURCES := $(wildcard tests/unit/*/*.c tests/unit/*/*/*.c)
CHECKS := $(CHECK_SOURCES:%.c=$(BUILD)/%)
# Takes the place of the Redis client in the tests that include it, and must not be met by others.
STEPPED := $(BUILD)/tests/support/support_session.o
# One worker of the HTTP layer on it.
STEPPED_HTTP := $(BUILD)/tests/support/support_http.o
CHECK_HELPERS := $(filter-out $(STEPPED) $(STEPPED_HTTP),\
                 $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/support_*.c)))
# An archive, so that a test takes only the helpers it calls, and needs only their layers.
SUPPORT := $(BUILD)/tests/libsupport.a

$(BUILD)/tests/%.o: CPPFLAGS += -Itests/support

$(SUPPORT): $(CHECK_HELPERS)
	$(Q)rm -f $@ && ar rcs $@ $^

$(patsubst %.c,$(BUILD)/%,$(shell grep -lsE '"support_(session|http).h"' $(CHECK_SOURCES))): $(STEPPED)
$(patsubst %.c,$(BUILD)/%,$(shell grep -ls '"support_http.h"' $(CHECK_SOURCES))): $(STEPPED_HTTP)

$(CHECKS): %: %.o $(SUPPORT) $(LIBRARY)
	@echo "  LINK  $@"
	$(Q)$(CC) -fno-lto $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS) $(shell pkg-config --libs check)

# What system tests load in front of the daemon's libraries.
BROKEN_CALLS := $(BUILD)/tests/support/broken_calls.so

$(BROKEN_CALLS): tests/support/broken_calls.c
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) -D_GNU_SOURCE -std=c11 -O2 -g $(WARNINGS) -fPIC -shared -o $@.new $< && mv $@.new $@

# What system tests start a node on.
LARGE_STATE := $(BUILD)/tests/support/large_state

$(LARGE_STATE): $(LARGE_STATE).o $(SUPPORT) $(LIBRARY)
	@echo "  LINK  $@"
	$(Q)$(CC) -fno-lto $(LDFLAGS) -o $@ $^ $(LDLIBS) $(shell pkg-config --libs check)

# A node of the first record format, for tests of upgrades: what knows the formats is compiled again for it.
EARLIER := $(BUILD)/tests/support/sessiond_format_1
EARLIER_SOURCES := src/session/model/record.c src/session/upkeep/key_marks.c src/session/upkeep/key_watch.c

$(BUILD)/format_1/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $< (format 1)"
	$(Q)$(CC) $(CPPFLAGS) -DRECORD_FORMAT_MAX=1 $(CFLAGS) -MMD -MP -c -o $@ $<

$(EARLIER): $(patsubst %.c,$(BUILD)/%.o,$(wildcard src/main/*.c)) $(EARLIER_SOURCES:%.c=$(BUILD)/format_1/%.o) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	$(Q)$(CC) $(OPTIMIZE) $(LTO) $(LDFLAGS) -o $@ $^ $(LDLIBS)

.PRECIOUS: $(BUILD)/tests/%.o

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# --- Around the build -----------------------------------------------------------------------------
# Targets that may have to install packages build in a make of their own, since this one asked
# pkg-config before the packages were there.

DESTDIR    ?=
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
DATADIR    := $(PREFIX)/share/sessiond
DOCDIR     := $(PREFIX)/share/doc/sessiond

NODES      ?= 1
PORT       ?= 8080
REDIS_PORT ?=

FORMATTED_FILES = $(shell find include src tests -name '*.[ch]' -not -path 'include/tbl/*')
PYTHON  := /usr/bin/python3
AGAIN   := +@$(MAKE) --no-print-directory $(if $(V),,-s) \
           $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

# Instrumented code makes gcc see dangers that are none; the ordinary build has these as errors.
INSTRUMENTED := -fno-omit-frame-pointer -Wno-error=format-truncation -Wno-error=maybe-uninitialized \
                -Wno-error=stringop-overflow

.PHONY: help deps run stop redis-up redis-down checks check unit system coverage repeat timing lint asan tsan chaos \
        clients bench memory format install clean check-parts flags profiled

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' Makefile

deps: ## Installs the missing Debian packages for building and testing
	@tests/support/deps.sh build

RUN := env BUILD=$(BUILD) NODES=$(NODES) PORT=$(PORT) REDIS_PORT=$(REDIS_PORT) tests/support/run.sh

run: ## Starts Redis and NODES=1 nodes on PORT=8080 in the foreground; writes build/run/env
	@$(RUN) check
	@tests/support/deps.sh build
	$(AGAIN) all
	@exec $(RUN) up

stop: ## Ends what `make run` started
	@BUILD=$(BUILD) tests/support/run.sh down

redis-up: ## Starts the local Redis Cluster (REDIS_PORT=7001) with the data it had
	@tests/support/deps.sh build
	@DIR=$(BUILD)/run/redis REDIS_PORT=$(REDIS_PORT) tests/support/redis_cluster.sh up

redis-down: ## Stops the local Redis Cluster; its data stays
	@DIR=$(BUILD)/run/redis REDIS_PORT=$(REDIS_PORT) tests/support/redis_cluster.sh down

check: deps ## Builds and runs all tests; the last line counts them
	@tests/support/deps.sh browser sandbox
	$(AGAIN) check-parts PARTS='unit system'

unit: deps ## Builds and runs the unit tests
	$(AGAIN) check-parts PARTS=unit

system: deps ## Builds and runs the tests of the whole daemon on a real cluster; ORDER=seed shuffles their files
	@tests/support/deps.sh browser sandbox
	$(AGAIN) check-parts PARTS=system

asan: deps ## The same as check, built with address and undefined behaviour sanitizers
	$(AGAIN) check-parts PARTS='unit system' BUILD=$(BUILD)/asan OPTIMIZE='-O1 -g' \
	    SANITIZE='-fsanitize=address,undefined $(INSTRUMENTED)'

tsan: deps ## The same as check, built with the thread sanitizer
	$(AGAIN) check-parts PARTS='unit system' BUILD=$(BUILD)/tsan OPTIMIZE='-O1 -g' \
	    SANITIZE='-fsanitize=thread $(INSTRUMENTED)'

coverage: deps ## Builds and runs the unit tests with gcov's counters; prints the share of branches they took, by file
	@find $(BUILD)/coverage -name '*.gcda' -delete 2>/dev/null || true
	$(AGAIN) check-parts PARTS=unit BUILD=$(BUILD)/coverage OPTIMIZE='-O0 -g' \
	    SANITIZE='--coverage -fprofile-update=atomic $(INSTRUMENTED)'; \
	    failed=$$?; $(PYTHON) tests/coverage.py --build $(BUILD)/coverage && exit $$failed

TIMES ?= 20

repeat: deps ## Runs the tests that have to do with time TIMES=20 times, or those that TESTS="test_invalidation check_common_time" names
	@tests/support/deps.sh browser sandbox
	$(AGAIN) check-parts PARTS='unit system' CHECK='--times $(TIMES) $(if $(TESTS),--tests $(TESTS),--timed)'

timing: deps ## Judges bounds of time (answers, percentiles, shares of a processor) in up to three tries, prints the figures
	$(AGAIN) check-parts PARTS=system CHECK='--timing $(if $(TESTS),--tests $(TESTS))'

checks: $(CHECKS) ## Builds the unit tests

# PARTS of the tests, each with what it needs.
check-parts: $(if $(findstring unit,$(PARTS)),$(CHECKS)) \
             $(if $(findstring system,$(PARTS)),$(DAEMON) $(BROKEN_CALLS) $(LARGE_STATE) $(EARLIER))
	@$(PYTHON) tests/check.py --build $(BUILD) $(if $(SANITIZE),--slow 2) $(CHECK) \
	    $(if $(findstring system,$(PARTS)),--system $(if $(ORDER),--order $(ORDER))) $(if $(findstring unit,$(PARTS)),--unit $(sort $(CHECKS)))

lint: deps ## Format, layers, circles, names, prose, documentation, static analysis; ONLY="circles names" in part
	@tests/support/deps.sh lint
	$(AGAIN) all
	@BUILD=$(BUILD) $(PYTHON) tests/lint/lint.py $(ONLY)

# For the static analysis, which is to see what the compiler sees.
flags:
	@:$(info $(CPPFLAGS))

clients: deps ## Tests with software of others: gateways, Node, Go, Python, Dovecot; LONG=1 for longer, CLIENTS='-k nginx' in part
	@tests/support/deps.sh clients
	$(AGAIN) all $(BUILD)/clients/node_modules/.package-lock.json
	$(if $(LONG),@$(PYTHON) tests/bench/gateways.py --build $(BUILD))
	@LONG=$(LONG) SESSIOND_BINARY=$(abspath $(DAEMON)) PYTHONDONTWRITEBYTECODE=1 \
	    $(PYTHON) -m pytest -q -p no:cacheprovider tests/clients $(CLIENTS)

# What tests/clients/package-lock.json lists; npm writes this file when all of it is there.
$(BUILD)/clients/node_modules/.package-lock.json: tests/clients/package-lock.json
	@mkdir -p $(BUILD)/clients && cp tests/clients/package.json $< $(BUILD)/clients/
	@echo "  NPM   $(BUILD)/clients"
	$(Q)cd $(BUILD)/clients && npm ci --no-audit --no-fund --omit=optional --ignore-scripts --loglevel=error && touch $(abspath $@)

bench: deps ## Measures against bare libmicrohttpd, nginx and webdis; BENCH='--only cached' in part, '--only platform' with 100,000 tenants, '--before PATH' two builds
	@tests/support/deps.sh bench
	$(AGAIN) all $(BENCH_PROGRAMS)
	@$(PYTHON) tests/bench/bench.py --build $(BUILD) $(BENCH)

chaos: deps ## MINUTES=1 of faults under load with SEED= (random), then the judgement of what clients saw
	$(AGAIN) all
	@exec $(PYTHON) tests/chaos/chaos.py --binary $(DAEMON) $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(SEED),--seed $(SEED)) $(CHAOS)

# The first binary notes under load which ways are taken, the second is laid out by that, with all the same hardening.
# It takes the place of the plain one until a source changes.
PROFILED := $(BUILD)/profiled
PLAIN    := $(OPTIMIZE)

profiled: all ## Builds the daemon by a profile of itself under load, for some per cent less CPU; `make install` takes it
	@tests/support/deps.sh bench
	@rm -rf $(PROFILED)
	$(AGAIN) all BUILD=$(PROFILED) OPTIMIZE='$(PLAIN) -fprofile-generate -fprofile-update=atomic'
	@$(PYTHON) tests/bench/train.py --build $(PROFILED)
	@find $(PROFILED) -name '*.o' -delete
	$(AGAIN) all BUILD=$(PROFILED) REVISION=$(REVISION)-profiled \
	    OPTIMIZE='$(PLAIN) -fprofile-use -fprofile-partial-training -Wno-missing-profile'
	@cp --remove-destination $(PROFILED)/sessiond $(DAEMON)

memory: deps ## Measures Redis memory per session with 100,000 users of 3 sessions
	$(AGAIN) all
	@$(PYTHON) tests/bench/memory.py --build $(BUILD)

BENCH_PROGRAMS := $(BUILD)/tests/bench/bare_responder $(BUILD)/tests/bench/paced

$(BENCH_PROGRAMS): $(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(shell pkg-config --libs libmicrohttpd)

format: ## Formats the C sources
	@tests/support/deps.sh lint
	@clang-format -i $(FORMATTED_FILES)

# Texts say where things are; installed elsewhere than /usr/local they say that. $(1): texts, $(2): directory.
install_texts = install -d $(2) && for text in $(1); do \
    sed 's|/usr/local|$(PREFIX)|g' "$$text" | install -m 644 /dev/stdin $(2)/"$$(basename "$$text")" || exit 1; done

install: $(DAEMON) ## Installs under DESTDIR and PREFIX=/usr/local; keeps an existing configuration
	install -D -m 755 $(DAEMON) $(DESTDIR)$(PREFIX)/bin/sessiond
	$(call install_texts,systemd/sessiond.service,$(DESTDIR)$(UNITDIR))
	$(call install_texts,conf/redis.conf conf/redis-acl.conf conf/sessiond.conf,$(DESTDIR)$(DATADIR))
	test -e $(DESTDIR)$(SYSCONFDIR)/sessiond/sessiond.conf || \
	    { $(call install_texts,conf/sessiond.conf,$(DESTDIR)$(SYSCONFDIR)/sessiond); }
	$(call install_texts,README.md CHANGELOG.md LICENSE,$(DESTDIR)$(DOCDIR))
	$(call install_texts,$(wildcard docs/*),$(DESTDIR)$(DOCDIR)/docs)
	$(call install_texts,$(wildcard conf/*.conf),$(DESTDIR)$(DOCDIR)/conf)
	$(call install_texts,$(wildcard conf/gateways/*),$(DESTDIR)$(DOCDIR)/conf/gateways)
	$(call install_texts,systemd/sessiond.service,$(DESTDIR)$(DOCDIR)/systemd)

clean: ## Stops what `make run` started and removes everything that was built, its data too
	@BUILD=$(BUILD) tests/support/run.sh down
	rm -rf $(BUILD)
