# sessiond: `make run` and `make check` do everything on a fresh Debian 12; `make help` lists the rest.
#
# BUILD=dir builds elsewhere, LAYERS="base store" builds the library of some layers only, V=1 shows
# the commands.

BUILD  ?= build
LAYERS ?= base store services session http
CC     ?= gcc
PREFIX ?= /usr/local
Q      := $(if $(V),,@)

PACKAGES := libmicrohttpd hiredis libuv jansson libsodium libcrypto libsystemd inih

WARNINGS := -Wall -Wextra -Wshadow -Wformat=2 -Werror=format-security -Wconversion -Wsign-conversion \
            -Wtrampolines -Wimplicit-fallthrough -Wstrict-prototypes -Wmissing-prototypes \
            -Werror=implicit -Werror=incompatible-pointer-types -Werror=int-conversion -Werror
HARDEN   := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-clash-protection -fstack-protector-strong \
            -fcf-protection=full -ftrivial-auto-var-init=zero -fno-delete-null-pointer-checks \
            -fno-strict-overflow -fno-strict-aliasing
LINKHARD := -pie -Wl,-z,nodlopen -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,now -Wl,--as-needed \
            -Wl,--no-copy-dt-needed-entries
OPTIMIZE ?= -O2 -g
SANITIZE ?=

VERSION  := 0.1.0
REVISION := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

CPPFLAGS += -D_GNU_SOURCE -DSESSIOND_VERSION='"$(VERSION)"' -DSESSIOND_REVISION='"$(REVISION)"' \
            -Iinclude $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
CFLAGS   += -std=c11 $(OPTIMIZE) $(WARNINGS) $(if $(SANITIZE),$(SANITIZE),$(HARDEN)) -fPIE -pthread
LDFLAGS  += $(LINKHARD) $(SANITIZE) -pthread
LDLIBS   += $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

SOURCES := $(foreach layer,$(LAYERS),$(wildcard src/$(layer)/*.c))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libsessiond.a
DAEMON  := $(BUILD)/sessiond

.DEFAULT_GOAL := all
.PHONY: all
all: $(DAEMON)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(LIBRARY): $(OBJECTS)
	@echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(DAEMON): $(BUILD)/src/main.o $(LIBRARY)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Unit tests: tests/check_<module>.c, each a program of its own.
CHECKS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/check_*.c))
CHECK_HELPERS := $(patsubst tests/%.c,$(BUILD)/tests/%.o,$(wildcard tests/support_*.c))

$(BUILD)/tests/check_%: $(BUILD)/tests/check_%.o $(CHECK_HELPERS) $(LIBRARY)
	@echo "  LINK  $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(shell pkg-config --libs check)

.PRECIOUS: $(BUILD)/tests/%.o

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
