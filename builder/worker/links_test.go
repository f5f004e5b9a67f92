package worker

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/snapshot"
	fileops "github.com/moby/buildkit/solver/llbsolver/file"
	"github.com/moby/buildkit/solver/llbsolver/ops/fileoptypes"
	"github.com/moby/buildkit/solver/pb"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// mountedAt is a directory in the form of file operations.
func mountedAt(t *testing.T, dir string) fileoptypes.Mount {
	t.Helper()
	reference := (&Worker{}).contextRef("context", &contextDir{path: dir})
	mounted, err := fileops.NewRefManager(nil, "").Prepare(t.Context(), reference, true, nil)
	must(t, err)
	return mounted
}

// filesAt lists everything that a copy may set on the entries of a directory.
func filesAt(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	firsts := map[uint64]string{}
	must(t, filepath.WalkDir(dir, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		name, content := strings.TrimPrefix(at, dir), ""
		switch {
		case info.Mode().IsRegular():
			read, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			content = string(read)
			if first, ok := firsts[stat.Ino]; ok {
				content = "is " + first
			}
			firsts[stat.Ino] = name
		case info.Mode()&fs.ModeSymlink != 0:
			content, err = os.Readlink(at)
		}
		attribute := make([]byte, 64)
		length, _ := unix.Lgetxattr(at, "user.kept", attribute)
		found = append(found, fmt.Sprintf("%s %s %d:%d %q %q", name, info.Mode(), stat.Uid, stat.Gid, content, attribute[:max(length, 0)]))
		if stat.Mtim.Sec < 1.1e9 { // Else it was made just now.
			found = append(found, info.ModTime().UTC().Format(time.RFC3339Nano))
		}
		return err
	}))
	return found
}

func TestALinkingCopyMakesWhatBuildKitsMakes(t *testing.T) {
	source := t.TempDir()
	at := func(name string) string { return filepath.Join(source, "context", name) }
	must(t, os.MkdirAll(at("d/deep"), 0o755), os.Mkdir(at("empty"), 0o710))
	for _, name := range []string{"plain", "d/deep/file", "many", "owned"} {
		must(t, os.WriteFile(at(name), []byte("content of "+name), 0o640))
	}
	must(t, os.Link(at("many"), at("names")), os.Symlink("/nowhere", at("d/away")), os.Symlink("context", filepath.Join(source, "link")),
		os.Chown(at("owned"), 5, 6), os.Chmod(at("owned"), 0o755|fs.ModeSetuid), os.Chown(at("d"), 7, 8), os.Chmod(at("d"), 0o755|fs.ModeSticky),
		os.Lchown(at("d/away"), 9, 10), unix.Lsetxattr(at("d"), "user.kept", []byte("value"), 0), unix.Lsetxattr(at("plain"), "user.kept", []byte("file"), 0))
	for _, name := range []string{"plain", "d/deep/file", "many", "owned", "d/deep", "d", "empty", ""} {
		must(t, os.Chtimes(at(name), time.Unix(1e9, 5), time.Unix(1e9+int64(len(name)), 7)))
	}
	copies := func(src, dest string) *pb.FileActionCopy {
		return &pb.FileActionCopy{
			Src: src, Dest: dest, Mode: -1, Timestamp: -1, DirCopyContents: true, FollowSymlink: true, CreateDestPath: true, AllowWildcard: true,
		}
	}
	for name, each := range map[string]struct {
		actions []*pb.FileActionCopy
		// Creates the existing files.
		before  func(dir string) error
		isError bool
	}{
		"into nothing":           {actions: []*pb.FileActionCopy{copies("/context", "/new/er/")}},
		"into the root":          {actions: []*pb.FileActionCopy{copies("/context", "/")}},
		"through a link":         {actions: []*pb.FileActionCopy{copies("/link", "/files")}},
		"all":                    {actions: []*pb.FileActionCopy{copies("/", "/files")}},
		"one directory twice":    {actions: []*pb.FileActionCopy{copies("/context", "/one"), copies("/context", "/two")}},
		"a file":                 {actions: []*pb.FileActionCopy{copies("/context/plain", "/x")}},
		"what is not there":      {actions: []*pb.FileActionCopy{copies("/missing", "/x")}, isError: true},
		"over what is there":     {actions: []*pb.FileActionCopy{copies("/context", "/")}, before: overWhatIsThere},
		"behind a link":          {actions: []*pb.FileActionCopy{copies("/context", "/to/x")}, before: func(dir string) error { return os.Symlink("/real", filepath.Join(dir, "to")) }},
		"a directory on a link":  {actions: []*pb.FileActionCopy{copies("/context", "/")}, before: func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "d")) }, isError: true},
		"a file on a directory":  {actions: []*pb.FileActionCopy{copies("/context", "/")}, before: func(dir string) error { return os.Mkdir(filepath.Join(dir, "plain"), 0o755) }, isError: true},
		"a directory on a file":  {actions: []*pb.FileActionCopy{copies("/context", "/")}, before: func(dir string) error { return os.WriteFile(filepath.Join(dir, "d"), nil, 0o644) }, isError: true},
		"linked, and once more":  {actions: []*pb.FileActionCopy{copies("/context", "/one"), copies("/context", "/one")}},
		"with a named pipe next": {actions: []*pb.FileActionCopy{copies("/context", "/one")}, before: func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600) }},
	} {
		t.Run(name, func(t *testing.T) {
			real, err := fileops.NewFileOpBackend(func(*pb.ChownOpt, snapshot.Mountable, snapshot.Mountable) (*fscopy.User, error) { return nil, nil })
			must(t, err)
			var made [2][]string
			var errs [2]string
			for at, backend := range []fileoptypes.Backend{real, linking{real}} {
				target := t.TempDir()
				if each.before != nil {
					must(t, each.before(target))
				}
				for _, action := range each.actions {
					if err := backend.Copy(t.Context(), mountedAt(t, source), mountedAt(t, target), nil, nil, action); err != nil {
						errs[at] = strings.ReplaceAll(err.Error(), target, "")
					}
				}
				made[at] = filesAt(t, target)
			}
			if errs[0] != errs[1] || (errs[0] != "") != each.isError {
				t.Errorf("fails with %q, BuildKit's with %q", errs[1], errs[0])
			}
			if !each.isError && !slices.Equal(made[0], made[1]) {
				t.Errorf("made\n%s\nBuildKit's made\n%s", strings.Join(made[1], "\n"), strings.Join(made[0], "\n"))
			}
		})
	}
}

func overWhatIsThere(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "d/deep"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "plain"), []byte("old"), 0o600); err != nil {
		return err
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "many")); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "d/away"), []byte("old"), 0o600)
}

func TestAFileIsLinkedOnceAndNeverWhereItWouldChange(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, "file"), []byte("content"), 0o600))
	inodeOf := func(at string) uint64 {
		info, err := os.Lstat(at)
		must(t, err)
		return info.Sys().(*syscall.Stat_t).Ino
	}
	real, err := fileops.NewFileOpBackend(func(*pb.ChownOpt, snapshot.Mountable, snapshot.Mountable) (*fscopy.User, error) {
		return &fscopy.User{UID: 5, GID: 6}, nil
	})
	must(t, err)
	plain := pb.FileActionCopy{
		Src: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, FollowSymlink: true, CreateDestPath: true,
	}
	for _, each := range []struct {
		dest     string
		change   func(*pb.FileActionCopy)
		isLinked bool
	}{
		{"/first", func(*pb.FileActionCopy) {}, true},
		// The layer would make both one file.
		{"/second", func(*pb.FileActionCopy) {}, false},
		{"/owned", func(action *pb.FileActionCopy) { action.Owner = &pb.ChownOpt{} }, false},
		{"/mode", func(action *pb.FileActionCopy) { action.Mode = 0o755 }, false},
		{"/modes", func(action *pb.FileActionCopy) { action.ModeStr = "u+x" }, false},
		{"/dated", func(action *pb.FileActionCopy) { action.Timestamp = 0 }, false},
	} {
		action := plain.CloneVT()
		action.Dest = each.dest
		each.change(action)
		must(t, linking{real}.Copy(t.Context(), mountedAt(t, source), mountedAt(t, target), nil, nil, action))
		if isLinked := inodeOf(filepath.Join(target, each.dest, "file")) == inodeOf(filepath.Join(source, "file")); isLinked != each.isLinked {
			t.Errorf("%s is linked: %t", each.dest, isLinked)
		}
	}
	if info, err := os.Stat(filepath.Join(source, "file")); err != nil || info.Mode().Perm() != 0o600 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the source has changed: %v %v", info, err)
	}
}

func TestNoOperationLinksWhoseArchiveOrOwnerCouldChangeFiles(t *testing.T) {
	copied := func(change func(*pb.FileActionCopy)) *pb.FileAction {
		action := &pb.FileActionCopy{Src: "/", Dest: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, FollowSymlink: true, CreateDestPath: true}
		change(action)
		return &pb.FileAction{Action: &pb.FileAction_Copy{Copy: action}}
	}
	plain := copied(func(*pb.FileActionCopy) {})
	for at, each := range []struct {
		actions []*pb.FileAction
		want    bool
	}{
		{[]*pb.FileAction{plain}, true},
		{[]*pb.FileAction{{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/x"}}}, plain}, true},
		{[]*pb.FileAction{{Action: &pb.FileAction_Mkdir{Mkdir: &pb.FileActionMkDir{Path: "/x"}}}}, false},
		{[]*pb.FileAction{plain, copied(func(action *pb.FileActionCopy) { action.AttemptUnpackDockerCompatibility = true })}, false},
		{[]*pb.FileAction{plain, copied(func(action *pb.FileActionCopy) { action.Owner = &pb.ChownOpt{} })}, false},
		{[]*pb.FileAction{copied(func(action *pb.FileActionCopy) { action.ExcludePatterns = []string{"x"} })}, false},
		{[]*pb.FileAction{copied(func(action *pb.FileActionCopy) { action.Src = "/a*" })}, false},
	} {
		if mayLink(each.actions) != each.want {
			t.Errorf("%d: may link: %t", at, !each.want)
		}
	}
}

// TestNothingIsWrittenToAFileThatIsThere checks that BuildKit's operations recreate files, on which linking relies.
func TestNothingIsWrittenToAFileThatIsThere(t *testing.T) {
	source, target, other := t.TempDir(), t.TempDir(), t.TempDir()
	at := filepath.Join(source, "file")
	must(t, os.WriteFile(at, []byte("content"), 0o600), os.Chtimes(at, time.Unix(1e9, 0), time.Unix(1e9, 0)),
		os.WriteFile(filepath.Join(other, "file"), []byte("other"), 0o755))
	before := filesAt(t, source)
	real, err := fileops.NewFileOpBackend(func(*pb.ChownOpt, snapshot.Mountable, snapshot.Mountable) (*fscopy.User, error) { return nil, nil })
	must(t, err)
	l := linking{real}
	whole := &pb.FileActionCopy{Src: "/", Dest: "/", Mode: -1, Timestamp: -1, DirCopyContents: true, FollowSymlink: true, CreateDestPath: true}
	changed := whole.CloneVT()
	changed.Mode, changed.Timestamp = 0o777, 5
	for name, change := range map[string]func(from, to fileoptypes.Mount) error{
		"a file that is made": func(_, to fileoptypes.Mount) error {
			return l.Mkfile(t.Context(), to, nil, nil, &pb.FileActionMkFile{Path: "/file", Mode: 0o777, Data: []byte("made"), Timestamp: 5})
		},
		"a directory that is made": func(_, to fileoptypes.Mount) error {
			return l.Mkdir(t.Context(), to, nil, nil, &pb.FileActionMkDir{Path: "/d", Mode: 0o777, MakeParents: true, Timestamp: 5})
		},
		"a copy":                 func(from, to fileoptypes.Mount) error { return l.Copy(t.Context(), from, to, nil, nil, whole) },
		"a copy that has a mode": func(from, to fileoptypes.Mount) error { return l.Copy(t.Context(), from, to, nil, nil, changed) },
		"a removal":              func(_, to fileoptypes.Mount) error { return l.Rm(t.Context(), to, &pb.FileActionRm{Path: "/file"}) },
	} {
		must(t, os.RemoveAll(target), os.Mkdir(target, 0o755))
		must(t, l.Copy(t.Context(), mountedAt(t, source), mountedAt(t, target), nil, nil, whole))
		assert.Check(t, change(mountedAt(t, other), mountedAt(t, target)), name)
		if after := filesAt(t, source); !slices.Equal(after, before) {
			t.Errorf("%s: the source is %q", name, after)
		}
	}
}
