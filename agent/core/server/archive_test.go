package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// filesContainer is a directory.
type filesContainer struct {
	Unimplemented
	root string
	err  error
}

func (c filesContainer) Files(context.Context, bool) (*os.File, error) {
	if c.err != nil {
		return nil, c.err
	}
	return os.Open(c.root)
}

func putOpen(path string) *agentv1.ArchivePutRequest {
	return &agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: path}}}
}

func TestAnArchiveIsKnownToBeTakenBeforeItsFirstByteComes(t *testing.T) {
	put := serveBehind(t, NewGate(), filesContainer{root: t.TempDir()}).ArchivePut(contextFor(t))
	assert.NilError(t, put.Send(putOpen("/")))
	conn, err := put.Conn()
	assert.NilError(t, err)
	if header := conn.ResponseHeader(); header.Get(archiveOpenHeader) == "" {
		t.Fatal(header)
	}
	if _, err := put.CloseAndReceive(); connect.CodeOf(err) != connect.CodeDataLoss {
		t.Fatalf("an archive without its end: %v", err)
	}
}

func TestAnArchiveThatALeavingAgentRefusesWasNotTaken(t *testing.T) {
	put := serveBehind(t, NewGate(), filesContainer{err: ErrLeaving}).ArchivePut(contextFor(t))
	assert.NilError(t, put.Send(putOpen("/")))
	conn, err := put.Conn()
	assert.NilError(t, err)
	if header := conn.ResponseHeader(); header.Get(archiveOpenHeader) != "" {
		t.Fatal(header)
	}
	if _, err := put.CloseAndReceive(); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Fatal(err)
	}
}

func TestAnArchiveComesIntoAWorkingDirectoryThatIsMadeForIt(t *testing.T) {
	root := t.TempDir()
	assert.NilError(t, os.Symlink("/real", filepath.Join(root, "link")))
	assert.NilError(t, os.MkdirAll(filepath.Join(root, "real", "there"), 0o700))
	client := serveBehind(t, NewGate(), filesContainer{root: root})
	empty := func(into, workingDirectory string) error {
		put := client.ArchivePut(contextFor(t))
		open := putOpen(into)
		open.GetOpen().WorkingDirectory = workingDirectory
		_ = put.Send(open)
		_ = put.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_End{End: &agentv1.ArchiveEnd{}}})
		_, err := put.CloseAndReceive()
		return err
	}
	for into, workingDirectory := range map[string]string{"/new": "/new/dir", "/link/made": "/link/made", "/real/there": "/real/there"} {
		assert.Check(t, empty(into, workingDirectory), into)
	}
	for made, mode := range map[string]os.FileMode{"new/dir": 0o755, "real/made": 0o755, "real/there": 0o700} {
		if info, err := os.Lstat(filepath.Join(root, made)); err != nil || info.Mode() != os.ModeDir|mode {
			t.Errorf("%s: %v, %v", made, info, err)
		}
	}
	if err := empty("/none", ""); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a directory that nobody makes: %v", err)
	}
}

// fullContainer has room for one call that reads files.
type fullContainer struct {
	Unimplemented
	root  string
	taken atomic.Bool
}

func (c *fullContainer) Files(context.Context, bool) (*os.File, error) {
	if c.taken.Swap(true) {
		return nil, connect.NewError(connect.CodeResourceExhausted, errors.New("no room"))
	}
	return os.Open(c.root)
}

func TestAnArchiveThatIsNotReadGivesWayToACallWithoutRoom(t *testing.T) {
	const patience = 50 * time.Millisecond
	for name, gate := range map[string]*Gate{"files alone": NewGateOfFiles(patience), "sessions too": NewGate()} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			big := filepath.Join(root, "big")
			assert.NilError(t, os.WriteFile(big, nil, 0o600))
			assert.NilError(t, os.Truncate(big, 64<<20)) // more than is on the way to a client
			client := serveBehind(t, gate, &fullContainer{Unimplemented: Unimplemented{Mode: "a test"}, root: root})
			unread, err := client.ArchiveGet(contextFor(t), connect.NewRequest(&agentv1.ArchiveGetRequest{Path: "/big"}))
			assert.NilError(t, err)
			assert.Assert(t, unread.Receive(), unread.Err())
			for range 10 { // the archive may be on its way at the first of them
				time.Sleep(2 * patience)
				_, err := client.ArchiveStat(contextFor(t), connect.NewRequest(&agentv1.ArchiveStatRequest{Path: "/"}))
				assert.Check(t, connect.CodeOf(err) == connect.CodeResourceExhausted, err)
			}
			for unread.Receive() {
			}
			if isCut := unread.Err() != nil; isCut != (gate.patience > 0) {
				t.Errorf("the archive ends with %v", unread.Err())
			}
		})
	}
}
