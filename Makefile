# libdbss. `make help` lists what can be made.

# HOST=aarch64-linux-gnu builds for another machine, with the tools of that name.
ifdef HOST
CC      := $(HOST)-gcc
CXX     := $(HOST)-g++
LD      := $(HOST)-ld
NM      := $(HOST)-nm
OBJCOPY := $(HOST)-objcopy
STRIP   := $(HOST)-strip
export CARGO_BUILD_TARGET := $(subst -linux-,-unknown-linux-,$(HOST))
endif

CARGO  ?= cargo
# What builds a package: another command than `cargo build` for make dist.
CARGO_BUILD ?= $(CARGO) build
CC     ?= cc
CXX    ?= c++
NM     ?= nm
OBJCOPY ?= objcopy
# Empty: what is built keeps its symbols.
STRIP  ?= strip
PYTHON ?= python3
GO     ?= go
NPM    ?= npm
NODE   ?= node
# More than twice as many at once as there are processors: tests wait more than they compute.
JOBS   := $(shell nproc)
PYTEST_JOBS ?= -n $(shell expr 2 \* $(JOBS) + 1) --dist worksteal
PREFIX ?= /usr/local

ROOT    := $(CURDIR)
BUILD   := $(ROOT)/build
TARGET  := $(or $(CARGO_TARGET_DIR),$(ROOT)/target)
# Where cargo puts what it makes, for another target (CARGO_BUILD_TARGET) too.
MADE    := $(TARGET)$(addprefix /,$(CARGO_BUILD_TARGET))
VENV    := $(ROOT)/.venv
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
OLDEST_RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
# The version of the ABI: SONAME libdbss.so.0 until the first stable release.
ABI     := 0

# What a program includes, for C and for C++.
HEADERS := include/dbss.h include/dbss.hpp include/dbss_raw.hpp

STRIPPED := $(if $(STRIP),-s --strip-program=$(STRIP))

# $(call put,options of install,from,to) replaces a file as a whole: a program that starts
# meanwhile finds the old one or the new one, and never a part.
define put
install $(1) $(2) $(3).new
mv -f $(3).new $(3)
endef

export CC CXX
# The linker of another target is its compiler.
ifdef CARGO_BUILD_TARGET
export CARGO_TARGET_$(shell echo '$(CARGO_BUILD_TARGET)' | tr a-z- A-Z_)_LINKER ?= $(CC)
endif
export DBSS_BUILD_DIR := $(BUILD)
export DBSS_LIBRARY   := $(BUILD)/lib/libdbss.so.$(ABI)
export PYTHONPATH     := $(ROOT)/bindings/python
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help all lib mock drivers samples cli man venv demo test test-rust test-python test-cpp test-go test-java java test-node node sdk sdk-comparison valgrind tsan asan fuzz fuzz-short soak bench lint lint-go lint-java lint-node deny dist dist-reproducible deb dist-check dist-check-short oldest-rust licenses reference header abi abi-check abi-baseline install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

all: lib man ## the library and the command dbss, in build/

lib: ## the shared and the static library, in build/lib
	$(CARGO_BUILD) --release --locked -p libdbss
	@mkdir -p $(BUILD)/lib $(BUILD)/include
	$(call put,-m 755 $(STRIPPED),$(MADE)/release/libdbss.so,$(BUILD)/lib/libdbss.so.$(ABI))
	ln -sf libdbss.so.$(ABI) $(BUILD)/lib/libdbss.so
# One object that shows the functions of the header alone, so that a program can
# have the static libraries of other Rust code beside it. Bitcode, which a build without
# optimisation at link time leaves in it, only tools of the same LLVM can read.
	$(NM) -D --defined-only $(MADE)/release/libdbss.so | sed 's/.* //' > $(BUILD)/lib/exported
	sed 's/^/-u /' $(BUILD)/lib/exported > $(BUILD)/lib/wanted
	$(LD) -r --gc-sections --force-group-allocation @$(BUILD)/lib/wanted \
		-o $(BUILD)/lib/dbss.o $(MADE)/release/libdbss.a
	$(OBJCOPY) --keep-global-symbols=$(BUILD)/lib/exported --strip-unneeded \
		--remove-section=.llvmbc --remove-section=.llvmcmd $(BUILD)/lib/dbss.o
	rm -f $(BUILD)/lib/libdbss.a.new
	$(AR) rcsD $(BUILD)/lib/libdbss.a.new $(BUILD)/lib/dbss.o
	mv -f $(BUILD)/lib/libdbss.a.new $(BUILD)/lib/libdbss.a
	rm $(BUILD)/lib/exported $(BUILD)/lib/wanted $(BUILD)/lib/dbss.o
	install -C -m 644 $(HEADERS) $(BUILD)/include

mock: ## the mock service, for the demonstration and the tests
	$(CARGO) build --locked $(or $(TEST_BUILD),-p dbss-mock)
	@mkdir -p $(BUILD)/bin
	$(call put,-m 755,$(MADE)/debug/dbss-mock,$(BUILD)/bin/dbss-mock)

java: lib ## the Java package, with the library for this machine, in build/java
	$(PYTHON) packaging/java_package.py $(BUILD)/java --repository $(BUILD)/java/repository \
		$(BUILD)/lib/libdbss.so.$(ABI)

# Go does not notice that a library has changed; this makes it link again.
GO_LINK = -ldflags "-X main.library=$$(cksum < $(BUILD)/lib/libdbss.a | cut -d' ' -f1)"

drivers: lib java ## the drivers of the conformance suite in Rust, Go and Java, in build/tests/conformance
	$(CARGO) build --locked $(or $(TEST_BUILD),-p dbss-driver)
	@mkdir -p $(BUILD)/tests/conformance
	$(call put,-m 755,$(MADE)/debug/driver-rust,$(BUILD)/tests/conformance/driver-rust)
	cd tests/conformance/drivers/go && $(GO) build -buildvcs=false -tags dbss_repository $(GO_LINK) \
		-o $(BUILD)/tests/conformance/driver-go .
	tests/conformance/drivers/java/build $(BUILD)

samples: lib ## the sample programs in C and C++, in build/samples
	$(MAKE) -C bindings/c -j$(JOBS) BUILD=$(BUILD)
	$(MAKE) -C bindings/cpp -j$(JOBS) BUILD=$(BUILD)

node: lib ## the Node package, in its directory
	$(MAKE) -C bindings/node BUILD=$(BUILD) NPM=$(NPM)

cli: ## the command dbss, in build/bin
	$(CARGO_BUILD) --release --locked -p dbss-cli
	@mkdir -p $(BUILD)/bin
	$(call put,-m 755 $(STRIPPED),$(MADE)/release/dbss,$(BUILD)/bin/dbss)

man: cli ## the command dbss, its man pages, and its completions for bash, zsh and fish
	@mkdir -p $(BUILD)/share/completions
	rm -rf $(BUILD)/share/man
	$(BUILD)/bin/dbss man $(BUILD)/share/man/man1
	$(BUILD)/bin/dbss completions bash > $(BUILD)/share/completions/dbss.bash
	$(BUILD)/bin/dbss completions zsh > $(BUILD)/share/completions/_dbss
	$(BUILD)/bin/dbss completions fish > $(BUILD)/share/completions/dbss.fish

venv: $(VENV)/.installed

$(VENV)/.installed: tests/python/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
	@touch $@

DEMO_DIR ?= $(BUILD)/demo

demo: lib cli mock ## download two reports, with the command dbss and with Python
	PYTHONPATH=$(ROOT)/bindings/python:$(ROOT)/tests/python $(PYTHON) bindings/demo.py $(DEMO_DIR)

# With the packages and the targets of `cargo test`, the crates below have the same
# features as there, so that they are not built a second time.
test: export TEST_BUILD := --workspace --bins --tests

# The last three wait more than they compute.
test: test-rust test-python ## all tests, those of C and C++ too
	$(MAKE) --no-print-directory -j3 test-go test-java test-node

test-rust:
	$(CARGO) test --workspace --locked

test-python: lib samples man mock drivers node venv
	$(MAKE) -C tests/c -j$(JOBS) BUILD=$(BUILD)
	$(MAKE) -C tests/cpp -j$(JOBS) BUILD=$(BUILD)
	$(VENV)/bin/python -m pytest tests/python $(PYTEST_JOBS)

# Links what `make lib` has built. Each sees a different kind of mistake. `make lint` runs vet.
GO_TEST = $(GO) test -vet=off -count=1 -tags dbss_repository $(GO_LINK)

test-go: lib mock ## the tests in Go: under its race detector, and with all checks of cgo
	cd bindings/go && $(GO_TEST) -race ./...
	cd bindings/go && GOEXPERIMENT=cgocheck2 $(GO_TEST) ./...

test-java: java mock ## the tests in Java, on Java 22 or newer (FFM) and on an older one (JNA)
	bindings/java/test $(BUILD)

# What hangs fails after this many milliseconds: a test, and in Node.js 20 a whole file of them, too.
test-node: node mock ## the tests in JavaScript
	cd bindings/node && $(NODE) --test --test-timeout=600000 test/*.test.mjs

test-cpp: lib samples man mock venv ## the tests of C++ alone, with its conformance cases
	$(MAKE) -C tests/cpp -j$(JOBS) BUILD=$(BUILD)
	$(VENV)/bin/python -m pytest tests/python/test_cpp.py tests/python/test_samples.py tests/python/test_library.py \
		tests/python/test_conformance.py -k "cpp" $(PYTEST_JOBS)

sdk: lib mock venv ## libdbss beside the official SDKs for Python, Go and Java, against the mock service
	tests/sdk/build $(BUILD)
	$(VENV)/bin/python -m pytest tests/python/test_sdks.py -m "sdk or not sdk"

sdk-comparison: lib mock venv ## write docs/sdk-comparison.md anew
	tests/sdk/build $(BUILD)
	$(VENV)/bin/python tests/sdk/comparison.py

valgrind: lib samples man mock venv ## the tests in C, the samples and the command, under valgrind
	$(MAKE) -C tests/c -j$(JOBS) BUILD=$(BUILD)
	$(VENV)/bin/python -m pytest tests/python -m valgrind $(PYTEST_JOBS)

tsan: lib mock venv ## the tests with many threads, under ThreadSanitizer
	tests/sanitizers/build thread $(BUILD)
	$(VENV)/bin/python -m pytest tests/python/test_c.py -k tsan

asan: lib mock node venv ## the tests in C and the addon of Node, under AddressSanitizer and its sisters
	tests/sanitizers/build address $(BUILD)
	$(VENV)/bin/python -m pytest tests/python/test_c.py tests/python/test_conformance.py \
		tests/python/test_node.py -k "asan or address_sanitizer" $(PYTEST_JOBS)

# How long each target runs; FUZZ_TARGET names one, or several.
FUZZ_SECONDS ?= 600
FUZZ_TARGET  ?=

fuzz: ## fuzz targets, FUZZ_SECONDS each; FUZZ_TARGET=name for one (tests/fuzz)
	tests/fuzz/run $(BUILD) $(FUZZ_SECONDS) $(FUZZ_TARGET)

fuzz-short: FUZZ_SECONDS = 15
fuzz-short: fuzz ## the same for 15 seconds each

soak: lib mock venv ## a million calls, a hundred thousand contexts and failures of each kind; failed allocations
	$(MAKE) -C tests/c -j$(JOBS) BUILD=$(BUILD)
	DBSS_TEST_SOAK=1000 DBSS_TEST_EACH_ALLOCATION=1 $(VENV)/bin/python -m pytest -s -o faulthandler_timeout=0 tests/python/test_c.py -k "test_check_passes and (soak- or download-tenants or each_failed_allocation)"

bench: lib java node ## libdbss beside libcurl, the official SDKs and usual HTTP clients; ROUNDS=7
	tests/bench/install
	cd tests/bench/node && $(NPM) ci --no-audit --no-fund --loglevel=error
	$(MAKE) -C tests/bench BUILD=$(BUILD)
	$(PYTHON) -m venv $(BUILD)/bench/venv
	$(BUILD)/bench/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/requirements.txt
	$(BUILD)/bench/venv/bin/python tests/bench/run.py $(BUILD) $(ROUNDS)

lint: venv lint-go lint-java lint-node ## formatting, lints and types of every language here
	$(CARGO) fmt --all -- --check
	cd tests/fuzz && $(CARGO) fmt -- --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CC) -std=c99 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only bindings/c/*.c tests/sanitizers/*.c
	$(VENV)/bin/clang-format --dry-run -Werror bindings/c/*.[ch] tests/c/*.[ch] tests/conformance/drivers/*.c tests/bench/*.[ch] tests/sanitizers/*.c \
		include/*.hpp bindings/node/addon/addon.[ch] bindings/node/test/*.c bindings/cpp/*.[ch]pp tests/cpp/*.cpp tests/conformance/drivers/*.cpp
	$(VENV)/bin/clang-tidy --quiet bindings/cpp/*.cpp -- -std=c++17 -Iinclude
	$(VENV)/bin/ruff check bindings packaging tests
	$(VENV)/bin/ruff format --check bindings packaging tests
	$(VENV)/bin/python tests/conformance/format.py --check
	$(VENV)/bin/python tests/lint/imports.py
	cd bindings/python && $(VENV)/bin/mypy --strict dbss

STATICCHECK := $(BUILD)/tools/bin/staticcheck

# Again if it fails: that of Go 1.26 now and then finds no file for a package (golang/go#77116).
GO_VET = { $(GO) vet -tags dbss_repository $(1) || $(GO) vet -tags dbss_repository $(1); }

lint-go: $(STATICCHECK)
	@files=$$(gofmt -l bindings packaging tests); [ -z "$$files" ] || { echo "not as gofmt writes it: $$files" >&2; exit 1; }
	cd bindings/go && $(call GO_VET,./...)
	cd tests/conformance/drivers/go && $(call GO_VET,.)
	cd bindings/go && $(STATICCHECK) -tags dbss_repository -checks all,-ST1000 ./...

$(STATICCHECK): Makefile
	@mkdir -p $(@D)
	GOBIN=$(@D) $(GO) install honnef.co/go/tools/cmd/staticcheck@v0.7.0
	@touch $@

# The compiler, with all its lints, runs in make java and make test-java.
lint-java:
	bindings/java/format $(BUILD) --check

NODE_TOOLS := bindings/node/node_modules/.bin
JAVASCRIPT := bindings/node packaging/consumer tests/conformance/drivers/node tests/bench/node

lint-node: bindings/node/node_modules/.installed
	cd bindings/node && node_modules/.bin/tsc -p . --noEmit
	$(NODE_TOOLS)/eslint -c bindings/node/eslint.config.mjs --max-warnings=0 $(JAVASCRIPT)
	$(NODE_TOOLS)/prettier --config bindings/node/.prettierrc.json --ignore-path bindings/node/.prettierignore --check $(JAVASCRIPT)

bindings/node/node_modules/.installed: bindings/node/package-lock.json
	$(MAKE) -C bindings/node NPM=$(NPM) node_modules/.installed

deny: ## licences, sources and versions of all that the library is made of
	tests/supply/check $(BUILD)

dist: ## the release archives, the wheels, the Go module, the Java and npm packages of all platforms, in build/dist/files
	packaging/tools $(BUILD) $(DIST_TARGETS)
	PATH=$(BUILD)/tools/python/bin:$(BUILD)/tools/bin:$$PATH \
		python3 packaging/dist.py $(BUILD)/dist $(DIST_TARGETS)

dist-reproducible: ## build the same again at another path, and compare
	packaging/reproducible $(BUILD) $(DIST_TARGETS)

deb: ## Debian packages of what make dist has built, checked by lintian
	packaging/deb $(BUILD)/dist

dist-check: mock ## install what make dist and make deb have built in clean roots, and use it
	packaging/tools $(BUILD) $(DIST_TARGETS)
	PATH=$(BUILD)/tools/python/bin:$$PATH \
		python3 packaging/check.py $(BUILD)/dist $(BUILD)/roots $(BUILD)/bin/dbss-mock $(DIST_TARGETS)

dist-check-short: ## make dist, deb and dist-check for this processor's glibc alone, in one root
	for target in dist deb dist-check; do \
		$(MAKE) $$target DIST_TARGETS=linux-$$(uname -m)-glibc \
			DIST_ROOTS=bookworm-$$(dpkg --print-architecture) || exit; \
	done

oldest-rust: ## whether the oldest Rust that Cargo.toml names takes the library and the command
	rustup toolchain install --profile minimal $(OLDEST_RUST)
	$(CARGO) +$(OLDEST_RUST) check --locked -p dbss -p libdbss -p dbss-cli

licenses: ## write THIRD-PARTY-LICENSES anew from Cargo.lock
	$(PYTHON) packaging/licenses.py

# Each language's tool, on the comments in its sources; those of Java made make java.
reference: java venv bindings/node/node_modules/.installed ## the reference documentation of every language, in build/reference
	$(VENV)/bin/python packaging/reference.py $(BUILD)/reference

header: ## write include/dbss.h, dbss.cdef.h and dbss-abi.json anew from src/ffi
	DBSS_WRITE_HEADER=1 $(CARGO) check -p libdbss

abi: header venv ## the same, and the layers of other languages that are made from it
	$(VENV)/bin/python bindings/generate/python.py
	$(VENV)/bin/python bindings/generate/go.py
	$(VENV)/bin/python bindings/generate/node.py
	$(VENV)/bin/python bindings/generate/cpp.py
	$(VENV)/bin/python bindings/generate/java.py

abi-check: venv ## whether the ABI is what it was, but for additions
	tests/abi/check $(TARGET)

abi-baseline: venv ## record the ABI of a release
	tests/abi/check --record $(TARGET)

# The targets of make dist, such as linux-x86_64-glibc; empty for all of them.
DIST_TARGETS ?=

# Where install puts the files; DESTDIR comes before each.
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR    ?= $(PREFIX)/share
DOCDIR     ?= $(DATADIR)/doc/dbss
# What a program needs beside the static library.
STATIC_LIBRARIES := -lpthread -ldl -lm

CMAKEDIR   := $(LIBDIR)/cmake/dbss
# What the library and the command are made of, where make dist has written it.
BILLS      := $(wildcard $(BUILD)/share/sbom/*.cdx.json)
# The directories that are the library's own; the others belong to the system.
OWN_DIRS   := $(CMAKEDIR) $(DATADIR)/dbss $(DOCDIR)
SHARED_DIRS := $(BINDIR) $(LIBDIR)/pkgconfig $(INCLUDEDIR) $(DATADIR)/man/man1 \
	$(DATADIR)/bash-completion/completions $(DATADIR)/zsh/site-functions $(DATADIR)/fish/vendor_completions.d
ABI_FILES  := include/dbss-abi.json include/dbss-abi.schema.json include/dbss.cdef.h
INSTALLED  := $(BINDIR)/dbss $(HEADERS:include/%=$(INCLUDEDIR)/%) $(LIBDIR)/pkgconfig/dbss.pc \
	$(addprefix $(LIBDIR)/libdbss.,a so so.$(ABI)) $(DATADIR)/man/man1/dbss.1 $(DATADIR)/man/man1/dbss-*.1 \
	$(addprefix $(CMAKEDIR)/,dbssConfig.cmake dbssConfigVersion.cmake) $(ABI_FILES:include/%=$(DATADIR)/dbss/%) \
	$(addprefix $(DOCDIR)/,LICENSE THIRD-PARTY-LICENSES libdbss.cdx.json dbss.cdx.json) \
	$(DATADIR)/bash-completion/completions/dbss $(DATADIR)/zsh/site-functions/_dbss \
	$(DATADIR)/fish/vendor_completions.d/dbss.fish

# DESTDIR as the shell takes it, whatever is in it.
quoted = '$(subst ','\'',$(1))'
D       = $(call quoted,$(DESTDIR))
# The others are written into files for pkg-config and CMake, which take no spaces.
PLACES := PREFIX BINDIR LIBDIR INCLUDEDIR DATADIR DOCDIR
check_places = $(foreach name,$(PLACES),$(if $(word 2,$($(name)))$(filter-out /%,$($(name))),\
	$(error $(name)='$($(name))': use a path that starts with / and has no space)))

# The prefix in the pkg-config file.
PCPREFIX   ?= $(PREFIX)
under_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))
relative = $(shell realpath -m --relative-to=$(1) $(2))
configure = umask 022 && sed -e 's|@PREFIX@|$(PCPREFIX)|' -e 's|@LIBDIR@|$(call under_prefix,$(LIBDIR))|' \
	-e 's|@INCLUDEDIR@|$(call under_prefix,$(INCLUDEDIR))|' \
	-e 's|@VERSION@|$(VERSION)|' -e 's|@ABI@|$(ABI)|' -e 's|@STATIC_LIBRARIES@|$(1)|' \
	-e 's|@TO_PREFIX@|$(call relative,$(CMAKEDIR),$(PREFIX))|' \
	-e 's|@LIB@|$(call relative,$(PREFIX),$(LIBDIR))|' -e 's|@INCLUDE@|$(call relative,$(PREFIX),$(INCLUDEDIR))|'

install: ## what make all has built, into DESTDIR and PREFIX (default /usr/local)
	$(check_places)
	@test -x $(BUILD)/bin/dbss -a -d $(BUILD)/share/man || { echo "nothing is built yet: run make all first, as yourself" >&2; exit 1; }
	umask 022 && install -d $(addprefix $(D),$(SHARED_DIRS) $(OWN_DIRS))
# No version in its name: ldconfig would prefer a newer one that was there before.
	$(call put,-m 755,$(BUILD)/lib/libdbss.so.$(ABI),$(D)$(LIBDIR)/libdbss.so.$(ABI))
	ln -sf libdbss.so.$(ABI) $(D)$(LIBDIR)/libdbss.so
	install -m 644 $(BUILD)/lib/libdbss.a $(D)$(LIBDIR)/libdbss.a
	install -m 644 $(HEADERS) $(D)$(INCLUDEDIR)
	install -m 644 $(ABI_FILES) $(D)$(DATADIR)/dbss
	$(call configure,$(STATIC_LIBRARIES)) packaging/dbss.pc.in > $(D)$(LIBDIR)/pkgconfig/dbss.pc
	$(call configure,$(subst $() ,;,$(STATIC_LIBRARIES:-l%=%))) packaging/cmake/dbssConfig.cmake.in > $(D)$(CMAKEDIR)/dbssConfig.cmake
	$(call configure) packaging/cmake/dbssConfigVersion.cmake.in > $(D)$(CMAKEDIR)/dbssConfigVersion.cmake
	$(call put,-m 755,$(BUILD)/bin/dbss,$(D)$(BINDIR)/dbss)
	install -m 644 $(BUILD)/share/man/man1/*.1 $(D)$(DATADIR)/man/man1
	install -m 644 $(BUILD)/share/completions/dbss.bash $(D)$(DATADIR)/bash-completion/completions/dbss
	install -m 644 $(BUILD)/share/completions/_dbss $(D)$(DATADIR)/zsh/site-functions
	install -m 644 $(BUILD)/share/completions/dbss.fish $(D)$(DATADIR)/fish/vendor_completions.d
	install -m 644 LICENSE THIRD-PARTY-LICENSES $(BILLS) $(D)$(DOCDIR)
ifeq ($(DESTDIR),)
	@echo "If the loader does not find libdbss.so.$(ABI): run ldconfig as root, or set LD_LIBRARY_PATH=$(LIBDIR)"
endif

uninstall: ## remove what install put into DESTDIR and PREFIX
	$(check_places)
	rm -f $(addprefix $(D),$(INSTALLED))
	rmdir --ignore-fail-on-non-empty $(addprefix $(D),$(OWN_DIRS)) 2>/dev/null || true

clean: ## remove what was built, the virtual environment too
	$(CARGO) clean
	rm -rf $(BUILD) $(VENV) $(addprefix bindings/node/,build dist node_modules) tests/bench/node/node_modules
