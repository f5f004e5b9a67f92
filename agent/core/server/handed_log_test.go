package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// handedContainer has a log that may go to clients' connections.
type handedContainer struct {
	Unimplemented
	writer *log.Writer
	offers *handover.Offers
}

func (c *handedContainer) Logs(_ context.Context, options log.ReadOptions) (*log.Reader, error) {
	return c.writer.Reader(options)
}

func (c *handedContainer) HandOvers() *handover.Offers { return c.offers }

// handedLogs are calls for a log whose client's connection may be handed on.
type handedLogs struct {
	*testing.T
	agentv1connect.AgentServiceClient
	writer *log.Writer
	dir    string
}

func serveHandedLog(t *testing.T, settings log.Settings) handedLogs {
	t.Helper()
	dir := t.TempDir()
	writer, _, err := log.Open(dir, settings)
	assert.NilError(t, err)
	t.Cleanup(func() { _ = writer.Close() })
	offers := handover.NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.New(slog.DiscardHandler))
	t.Cleanup(offers.Close)
	container := &handedContainer{Unimplemented{Mode: "a test"}, writer, offers}
	return handedLogs{t, serveBehind(t, NewGate(), container), writer, dir}
}

// write writes lines of both streams, a second apart, and answers the time of the first.
func (l handedLogs) write(lines int) time.Time {
	l.Helper()
	begin := time.Unix(1_700_000_000, 0)
	for n := range lines {
		stream := log.Stdout
		if n%3 == 0 {
			stream = log.Stderr
		}
		line := fmt.Sprintf("%d %s\n", n, strings.Repeat("x", n%200))
		if err := l.writer.Append(stream, begin.Add(time.Duration(n)*time.Second), []byte(line)); err != nil {
			l.Fatal(err)
		}
	}
	return begin
}

// file is the log's only one.
func (l handedLogs) file() *os.File {
	l.Helper()
	names, err := filepath.Glob(filepath.Join(l.dir, "*"))
	if err != nil || len(names) != 1 {
		l.Fatalf("%q, %v", names, err)
	}
	file, err := os.OpenFile(names[0], os.O_RDWR, 0)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { file.Close() })
	return file
}

// damage changes a byte of it.
func (l handedLogs) damage(at int64) {
	l.Helper()
	if _, err := l.file().WriteAt([]byte("?"), at); err != nil {
		l.Fatal(err)
	}
}

// read has what comes over the call, of a followed log the first.
func (l handedLogs) read(request *agentv1.LogsRequest) (content []byte, offer *agentv1.HandOverOffer, err error) {
	l.Helper()
	stream, err := l.Logs(contextFor(l.T), connect.NewRequest(request))
	if err != nil {
		l.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		content = append(content, stream.Msg().GetChunk().GetData()...)
		if end := stream.Msg().GetEnd(); end != nil && end.TotalBytes != uint64(len(content)) {
			l.Fatalf("%d bytes came of %d", len(content), end.TotalBytes)
		}
		if offer = stream.Msg().GetOffer(); offer != nil || request.Follow && len(content) > 0 {
			return content, offer, nil
		}
	}
	return content, nil, stream.Err()
}

// handedLog is a log whose client has been handed on.
type handedLog struct {
	*connect.ServerStreamForClient[agentv1.LogsResponse]
	client *net.UnixConn
	body   io.Reader
	vanish context.CancelFunc
}

// hand calls for a log, and hands a client on.
func (l handedLogs) hand(request *agentv1.LogsRequest) handedLog {
	l.Helper()
	ctx, cancel := context.WithCancel(contextFor(l.T))
	request.HandOver = true
	stream, err := l.Logs(ctx, connect.NewRequest(request))
	if err != nil {
		l.Fatal(err)
	}
	if !stream.Receive() || stream.Msg().GetOffer() == nil {
		l.Fatalf("no offer: %v", stream.Err())
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		l.Fatal(err)
	}
	client, err := handover.ConnectionOf(pair[0])
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { client.Close() })
	_ = client.SetDeadline(time.Now().Add(2 * time.Minute))
	offer := stream.Msg().GetOffer()
	if _, err := handover.Send(offer.Socket, offer.Token, pair[1], nil); err != nil {
		l.Fatal(err)
	}
	_ = unix.Close(pair[1])
	return handedLog{stream, client, httputil.NewChunkedReader(bufio.NewReader(client)), cancel}
}

// end has the call's last word.
func (h handedLog) end() (total uint64, err error) {
	for h.Receive() {
		if end := h.Msg().GetEnd(); end != nil {
			return end.TotalBytes, nil
		}
	}
	return 0, h.Err()
}

const (
	inFrames = agentv1.LogForm_LOG_FORM_FRAMES
	inLines  = agentv1.LogForm_LOG_FORM_LINES
)

func TestALogIsTheSameOverTheCallAndInItsClientsConnection(t *testing.T) {
	l := serveHandedLog(t, log.Settings{})
	begin := l.write(20_000).UnixNano()
	since, until, tail := begin+int64(time.Hour), begin+int64(2*time.Hour), uint64(1500)
	for _, request := range []*agentv1.LogsRequest{
		{Stdout: true, Stderr: true},
		{Stdout: true},
		{Stderr: true, Timestamps: true, LinePrefix: "a=1 "},
		{Stdout: true, Stderr: true, Tail: &tail},
		{Stdout: true, Stderr: true, SinceUnixNs: &since, UntilUnixNs: &until},
	} {
		for _, request.Form = range []agentv1.LogForm{inFrames, inLines} {
			request.HandOver = false
			want, _, err := l.read(request)
			if err != nil || len(want) == 0 {
				t.Fatalf("%v: %d bytes, %v", request, len(want), err)
			}
			handed := l.hand(request)
			got, err := io.ReadAll(handed.body)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: %d bytes in place of %d, or others, %v", request, len(got), len(want), err)
			}
			if total, err := handed.end(); err != nil || total != uint64(len(want)) {
				t.Errorf("%v: told %d, %v", request, total, err)
			}
		}
	}
}

func TestALogWhoseCallerAndFilesAreGoneComesInWholeLinesAndTellsOfIt(t *testing.T) {
	l := serveHandedLog(t, log.Settings{MaxSize: 4 << 20, MaxFiles: 2})
	l.write(30_000)
	handed := l.hand(&agentv1.LogsRequest{Stdout: true, Stderr: true, Form: inLines})
	first := make([]byte, 2)
	_, err := io.ReadFull(handed.body, first)
	assert.NilError(t, err)
	handed.vanish()
	l.write(100_000) // the files of which some was read are gone
	rest, err := io.ReadAll(handed.body)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	text, reason, _ := strings.Cut(string(first)+string(rest), "Error grabbing logs: ")
	assert.Check(t, is.Contains(reason, "removed by rotation"))
	last := 0
	for line := range strings.Lines(text) {
		number, _, _ := strings.Cut(line, " ")
		if _, err := fmt.Sscan(number, &last); err != nil || len(line) != len(number)+1+last%200+1 {
			t.Fatalf("the line %q", line)
		}
	}
	assert.Assert(t, last != 0, "no line has come")
}

func TestALogWhoseClientLeavesIsOverWithoutAComplaint(t *testing.T) {
	l := serveHandedLog(t, log.Settings{})
	l.write(20_000)
	for _, leave := range []func(*net.UnixConn) error{(*net.UnixConn).Close, (*net.UnixConn).CloseWrite} {
		handed := l.hand(&agentv1.LogsRequest{Stdout: true, Form: inFrames})
		assert.NilError(t, leave(handed.client))
		if total, err := handed.end(); connect.CodeOf(err) != connect.CodeCanceled {
			t.Fatalf("%d bytes went nowhere: %v", total, err)
		}
	}
}

func TestADamagedLogSaysSoBehindWhatThereIsOfItAndIsNeverWhole(t *testing.T) {
	l := serveHandedLog(t, log.Settings{})
	l.write(20_000)
	l.damage(1_000_000)
	for _, form := range []agentv1.LogForm{inFrames, inLines} {
		request := &agentv1.LogsRequest{Stdout: true, Stderr: true, Form: form}
		before, _, err := l.read(request)
		var told *connect.Error
		if !errors.As(err, &told) || told.Code() != connect.CodeDataLoss {
			t.Fatalf("over the call: %v", err)
		}
		assert.Check(t, len(before) > 1_500_000, "%d bytes: what is behind the damage is missing", len(before))
		want := append(before, handover.LogFailure(told, form == inFrames)...)
		handed := l.hand(request)
		got, err := io.ReadAll(handed.body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.Equal(got, want) {
			t.Errorf("%d bytes in place of %d, or others, %v", len(got), len(want), err)
		}
		if _, err := handed.end(); connect.CodeOf(err) != connect.CodeDataLoss {
			t.Errorf("the call was told %v", err)
		}
	}
	l = serveHandedLog(t, log.Settings{})
	l.write(1)
	l.damage(0)
	request := &agentv1.LogsRequest{Stdout: true, Form: inFrames, HandOver: true}
	if _, offer, err := l.read(request); offer != nil || connect.CodeOf(err) != connect.CodeDataLoss {
		t.Errorf("before the first byte: %v, %v", offer, err)
	}
}

func TestALogThatIsNotHandedOnHasNoOffer(t *testing.T) {
	l := serveHandedLog(t, log.Settings{})
	if _, offer, err := l.read(&agentv1.LogsRequest{Stdout: true, Form: inFrames, HandOver: true}); offer != nil || err != nil {
		t.Errorf("an empty one: %v, %v", offer, err)
	}
	l.write(3)
	for _, code := range []connect.Code{0, connect.CodeDataLoss} {
		want, _, err := l.read(&agentv1.LogsRequest{Stdout: true, Form: inFrames})
		if len(want) == 0 || (err != nil) != (code != 0) {
			t.Fatalf("%q, %v", want, err)
		}
		small, offer, err := l.read(&agentv1.LogsRequest{Stdout: true, Form: inFrames, HandOver: true})
		if offer != nil || err != nil && connect.CodeOf(err) != code || !bytes.Equal(small, want) {
			t.Errorf("a small one: %q in place of %q, %v, %v", small, want, offer, err)
		}
		info, err := l.file().Stat()
		assert.NilError(t, err)
		l.write(1)
		l.damage(info.Size())
	}
	l = serveHandedLog(t, log.Settings{})
	l.write(3000)
	if _, offer, err := l.read(&agentv1.LogsRequest{Stdout: true, Follow: true, Form: inFrames, HandOver: true}); offer != nil || err != nil {
		t.Errorf("a followed one: %v, %v", offer, err)
	}
	if _, _, err := l.read(&agentv1.LogsRequest{Records: true, HandOver: true}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("records: %v", err)
	}
}
