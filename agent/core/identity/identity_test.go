package identity

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\nalice:x:1000:100:Alice:/home/alice:/bin/sh\n1000x:x:7:8::/x:\n"
	groups = "root:x:0:\nusers:x:100:\naudio:x:29:bob,alice\nvideo:x:44:alice\n"
	// numericNames are lines whose names are numbers, as a hostile image has them.
	numericPasswd = "1000:x:0:0::/root:/bin/sh\n99999999999999999999:x:0:0::/root:/bin/sh\n-1:x:0:0::/:\n" +
		"+5:x:0:0::/:\n0:x:12:13::/not-root:\nalice:x:1000:100::/home/alice:\nagain:x:1000:7::/again:\n"
	numericGroups = "100:x:0:alice\n29:x:0:1000\n99999999999999999999:x:0:\n-1:x:0:\naudio:x:29:alice\nusers:x:100:\n"
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
		{"alice:9:video", nil, 1000, 9, []uint32{9}},
		{"4242", nil, 4242, 0, []uint32{0}},
		{"4242:4243", nil, 4242, 4243, []uint32{4243}},
		{"1000x", nil, 7, 8, []uint32{8}},
		{"alice", []string{"root", "555", "audio", "root"}, 1000, 100, []uint32{100, 29, 44, 0, 555}},
	} {
		t.Run(c.spec, func(t *testing.T) {
			got, err := Resolve(Files{strings.NewReader(passwd), strings.NewReader(groups)}, c.spec, c.additional)
			assert.NilError(t, err)
			if got.UID != c.uid || got.GID != c.gid || !reflect.DeepEqual(got.AdditionalGIDs, c.gids) {
				t.Errorf("got %+v, want %d:%d %v", got, c.uid, c.gid, c.gids)
			}
		})
	}
}

// CVE-2016-3697: an image's line `1000:x:0:0::/:/bin/sh` made --user 1000 root.
func TestANumberIsNeverAName(t *testing.T) {
	for _, c := range []struct {
		spec       string
		additional []string
		want       Identity
	}{
		{"1000", nil, Identity{1000, 100, []uint32{100, 0, 29}, "/home/alice"}},
		{"1000:100", nil, Identity{1000, 100, []uint32{100}, "/home/alice"}},
		{"alice:29", nil, Identity{1000, 29, []uint32{29}, "/home/alice"}},
		{"5", []string{"100", "29"}, Identity{5, 0, []uint32{0, 100, 29}, "/"}},
		{"+5", nil, Identity{5, 0, []uint32{0}, "/"}},
		{"", nil, Identity{0, 0, []uint32{0}, "/root"}}, // the line `1000` has the number 0
		{"0", nil, Identity{0, 0, []uint32{0}, "/root"}},
	} {
		t.Run(fmt.Sprint(c.spec, c.additional), func(t *testing.T) {
			got, err := Resolve(Files{strings.NewReader(numericPasswd), strings.NewReader(numericGroups)}, c.spec, c.additional)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v instead of %+v", got, err, c.want)
			}
		})
	}
	for _, c := range []struct {
		spec       string
		additional []string
	}{{"99999999999999999999", nil}, {"-1", nil}, {"alice:-1", nil}, {"alice:99999999999999999999", nil}, {"4294967296", nil},
		{"alice", []string{"99999999999999999999"}}, {"alice", []string{"-1"}}} {
		got, err := Resolve(Files{strings.NewReader(numericPasswd), strings.NewReader(numericGroups)}, c.spec, c.additional)
		assert.Check(t, is.ErrorIs(err, ErrOutOfRange), "%q %q: %+v", c.spec, c.additional, got)
	}
}

// The kernel has 32 bits for numbers that the file may write longer.
func TestNumbersOfTheFilesDoNotWrapAround(t *testing.T) {
	for line, want := range map[string]error{
		"alice:x:4294967296:100::/:":                   ErrOutOfRange,
		"alice:x:-1:100::/:":                           ErrOutOfRange,
		"alice:x:2147483648:100::/:":                   ErrOutOfRange,
		"alice:x:1000:4294967296::/":                   ErrOutOfRange,
		"alice:x:1000:-1::/":                           ErrOutOfRange,
		"alice:x:" + strings.Repeat("9", 40) + ":1::/": ErrOutOfRange,
		"alice:x:1000 :100::/":                         ErrNoUserEntry,
		"alice:x":                                      ErrNoUserEntry,
		"alice:x:0x10:1":                               ErrNoUserEntry,
		"alice:x:1000":                                 nil,
		"alice:x:1000:\nalice:x:0:0:":                  nil,
	} {
		got, err := Resolve(Files{strings.NewReader(line), nil}, "alice", nil)
		if !errors.Is(err, want) || (want == nil && (got.UID != 1000 || got.GID != 0)) {
			t.Errorf("%q: %+v, %v instead of %v", line, got, err, want)
		}
	}
	for _, number := range []string{"4294967296", "-1"} {
		files := func() Files { return Files{nil, strings.NewReader("big:x:" + number + ":alice\n")} }
		_, err := Resolve(files(), "1:big", nil)
		assert.Check(t, is.ErrorIs(err, ErrOutOfRange), "a main group of number %s", number)
		_, err = Resolve(files(), "1", []string{"big"})
		assert.Check(t, is.ErrorIs(err, ErrOutOfRange), "an additional group of number %s", number)
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
		{"alice", []string{""}, "Unable to find group : no matching entries in group file"},
		{"4294967296", nil, "uids and gids must be in range 0-2147483647"},
		{"-1", nil, "uids and gids must be in range 0-2147483647"},
	} {
		_, err := Resolve(Files{strings.NewReader(passwd), strings.NewReader(groups)}, c.spec, c.additional)
		if err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %q", c.spec, err, c.want)
		}
	}
}
