package names

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestLinesOfMovedContainersGetTheirNewAddressAndNothingElseChanges(t *testing.T) {
	before := "127.0.0.1\tlocalhost\n# 172.17.0.2\tstore\n172.17.0.2\tstore database db\n172.17.0.9 store\n172.17.0.3\tdatabase\n172.17.0.4\tlast"
	after := "127.0.0.1\tlocalhost\n# 172.17.0.2\tstore\n172.17.0.7\tstore database db\n172.17.0.9 store\n172.17.0.3\tdatabase\n172.17.0.8\tlast"
	moved := []*agentv1.HostsEntry{
		{Address: "172.17.0.7", Names: []string{"store", "database"}},
		{Address: "172.17.0.8", Names: []string{"last"}},
		{Address: "172.17.0.6", Names: []string{"nobody"}},
		{Address: "172.17.0.5"},
	}
	if got := Readdress(before, moved); got != after {
		t.Errorf("%q", got)
	}
	path := filepath.Join(t.TempDir(), "hosts")
	assert.NilError(t, os.WriteFile(path, []byte(before), 0o640))
	assert.NilError(t, ReaddressFile(path, moved))
	content, err := os.ReadFile(path)
	if info, _ := os.Stat(path); err != nil || string(content) != after || info.Mode().Perm() != 0o640 {
		t.Errorf("%q, %v, %v", content, info.Mode(), err)
	}
}

func TestAHostsFileThatIsNoFileIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	moved := []*agentv1.HostsEntry{{Address: "172.17.0.7", Names: []string{"store"}}}
	other := filepath.Join(dir, "other")
	assert.NilError(t, os.WriteFile(other, []byte("172.17.0.2\tstore\n"), 0o600))
	assert.NilError(t, os.Symlink(other, filepath.Join(dir, "hosts")))
	for _, name := range []string{"missing", "hosts"} {
		assert.Check(t, ReaddressFile(filepath.Join(dir, name), moved), name)
	}
	if content, _ := os.ReadFile(other); string(content) != "172.17.0.2\tstore\n" {
		t.Errorf("another file was changed: %q", content)
	}
}

func TestAFileThatFindsNoRoomForItsNewContentKeepsTheOldOne(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a file system of three pages")
	}
	dir := t.TempDir()
	assert.NilError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12k"))
	defer unix.Unmount(dir, 0)
	hosts := filepath.Join(dir, "hosts")
	before := bytes.Repeat([]byte("a"), 5000)
	assert.NilError(t, os.WriteFile(hosts, before, 0o644))
	after := bytes.Repeat([]byte("b"), 20000)
	if err := RewriteFile(hosts, before, after); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v, want ENOSPC", err)
	}
	if got, err := os.ReadFile(hosts); err != nil || !bytes.Equal(got, before) {
		t.Fatalf("%d bytes of %q, %v; want the old content", len(got), got[:1], err)
	}
	assert.NilError(t, RewriteFile(hosts, before, after[:10]))
	if got, err := os.ReadFile(hosts); err != nil || string(got) != "bbbbbbbbbb" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestReadsNoMoreOfANameFileThanItsBound(t *testing.T) {
	// A size of 0 and more content, as of a file that grows while it is read.
	if _, err := os.Stat("/proc/kallsyms"); err != nil {
		t.Skip("no /proc/kallsyms")
	}
	content, err := ReadNameFile("/proc/kallsyms")
	if err != nil || content != nil {
		t.Fatalf("got %d bytes, %v", len(content), err)
	}
}

func TestALeaseOnAHostsFileHoldsNobodyUp(t *testing.T) {
	signal.Ignore(unix.SIGIO) // for the holder, when somebody else opens the file
	t.Cleanup(func() { signal.Reset(unix.SIGIO) })
	path := filepath.Join(t.TempDir(), "hosts")
	assert.NilError(t, os.WriteFile(path, []byte("172.17.0.2\tstore\n"), 0o600))
	file, err := os.Open(path)
	assert.NilError(t, err)
	defer file.Close()
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	assert.NilError(t, err)
	begun := time.Now()
	err = ReaddressFile(path, []*agentv1.HostsEntry{{Address: "172.17.0.7", Names: []string{"store"}}})
	assert.Check(t, is.ErrorIs(err, unix.EAGAIN))
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it takes %v", took)
	}
}
