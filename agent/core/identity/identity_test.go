package identity

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\nalice:x:1000:100:Alice:/home/alice:/bin/sh\n1000x:x:7:8::/x:\n"
	groups = "root:x:0:\nusers:x:100:\naudio:x:29:bob,alice\nvideo:x:44:alice\n"
)

func TestResolveFollowsDockersRules(t *testing.T) {
	for _, c := range []struct {
		spec       string
		additional []string
		uid, gid   uint32
		gids       []uint32
	}{
		{"", nil, 0, 0, []uint32{0}},
		{"alice", nil, 1000, 100, []uint32{100, 29, 44}},
		{"1000", nil, 1000, 100, []uint32{100, 29, 44}},
		{"alice:video", nil, 1000, 44, []uint32{44}},
		{"alice:9", nil, 1000, 9, []uint32{9}},
		{"4242", nil, 4242, 0, []uint32{0}},
		{"4242:4243", nil, 4242, 4243, []uint32{4243}},
		{"1000x", nil, 7, 8, []uint32{8}},
		{"alice", []string{"root", "555", "audio"}, 1000, 100, []uint32{100, 29, 44, 0, 555}},
	} {
		t.Run(c.spec, func(t *testing.T) {
			got, err := Resolve(Files{strings.NewReader(passwd), strings.NewReader(groups)}, c.spec, c.additional)
			if err != nil {
				t.Fatal(err)
			}
			if got.UID != c.uid || got.GID != c.gid || !reflect.DeepEqual(got.AdditionalGIDs, c.gids) {
				t.Errorf("got %+v, want %d:%d %v", got, c.uid, c.gid, c.gids)
			}
		})
	}
}

func TestResolveWordsItsErrorsAsDocker(t *testing.T) {
	for _, c := range []struct {
		spec       string
		additional []string
		want       string
	}{
		{"nobody-here", nil, "unable to find user nobody-here: no matching entries in passwd file"},
		{"alice:nope", nil, "unable to find group nope: no matching entries in group file"},
		{"alice", []string{"nope"}, "Unable to find group nope: no matching entries in group file"},
		{"4294967296", nil, "uids and gids must be in range 0-2147483647"},
		{"-1", nil, "unable to find user -1: no matching entries in passwd file"},
	} {
		_, err := Resolve(Files{strings.NewReader(passwd), strings.NewReader(groups)}, c.spec, c.additional)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %q", c.spec, err, c.want)
		}
	}
}

func TestResolveInStaysWithinTheRoot(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, path := range []string{filepath.Join(root, "etc"), filepath.Join(root, "real"), filepath.Join(dir, "real")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(filepath.Join(dir, "real", "passwd"), []byte("alice:x:1:1:::\n"), 0o644)
	os.WriteFile(filepath.Join(root, "real", "passwd"), []byte("alice:x:2:2:::\n"), 0o644)
	os.Symlink("../../real/passwd", filepath.Join(root, "etc", "passwd"))
	file, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := ResolveIn(file, "alice", nil)
	if err != nil || got.UID != 2 {
		t.Errorf("got %+v, %v: want the root's own passwd", got, err)
	}
	os.Remove(filepath.Join(root, "etc", "passwd"))
	if _, err := ResolveIn(file, "alice", nil); !errors.Is(err, ErrNoUserEntry) {
		t.Errorf("without a passwd file: %v", err)
	}
}
