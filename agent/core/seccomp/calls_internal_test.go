package seccomp

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"
)

func TestTheTablesAreTheLibrarys(t *testing.T) {
	for name, of := range map[string]*arch.Info{
		"x86_64": arch.X86_64, "i386": arch.I386, "x32": arch.X32, "aarch64": arch.AARCH64, "arm": arch.ARM,
	} {
		var lines strings.Builder
		for _, number := range slices.Sorted(maps.Keys(of.SyscallNumbers)) {
			fmt.Fprintln(&lines, number, of.SyscallNumbers[number])
		}
		path := filepath.Join("calls", name)
		if golden.FlagUpdate() {
			assert.NilError(t, os.WriteFile(path, []byte(lines.String()), 0o644))
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != lines.String() {
			t.Errorf("%s is not the library's (%v): go test ./core/seccomp -run Librarys -update", path, err)
		}
	}
}

func TestTheKernelsNamesOfArchitecturesAreTheLibrarys(t *testing.T) {
	for audit, of := range map[uint32]*arch.Info{
		unix.AUDIT_ARCH_X86_64: arch.X86_64, unix.AUDIT_ARCH_I386: arch.I386, unix.AUDIT_ARCH_AARCH64: arch.AARCH64,
		unix.AUDIT_ARCH_ARM: arch.ARM,
	} {
		if uint32(of.ID) != audit {
			t.Errorf("%s is %#x, not %#x", of.Name, uint32(of.ID), audit)
		}
	}
	assert.Check(t, arch.X32.ID == arch.X86_64.ID, "x32 is an architecture of its own")
}
