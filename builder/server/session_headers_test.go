package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/pkg/errors"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// block is a block of headers.
func block(t *testing.T, fields ...string) []byte {
	t.Helper()
	var made bytes.Buffer
	encoder := hpack.NewEncoder(&made)
	for at := 0; at < len(fields); at += 2 {
		assert.NilError(t, encoder.WriteField(hpack.HeaderField{Name: fields[at], Value: fields[at+1], Sensitive: true}))
	}
	return made.Bytes()
}

func TestASessionThatAnswersWithLongHeadersEnds(t *testing.T) {
	s, _ := running(t)
	address, _ := served(t, s)
	conn, err := dialer(address, "/session", http.Header{
		"X-Docker-Expose-Session-Uuid": {"one"}, "X-Buildkit-Session-Health-Custom-Timeout": {"1000"},
	})
	assert.NilError(t, err)
	defer conn.Close()
	assert.NilError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
	assert.NilError(t, err)
	frames := http2.NewFramer(conn, conn)
	assert.NilError(t, frames.WriteSettings())
	for asked := 0; ; {
		frame, err := frames.ReadFrame()
		if err != nil {
			assert.Equal(t, asked, 1, err)
			return
		}
		if _, isAsked := frame.(*http2.HeadersFrame); isAsked {
			if asked++; asked > 1 {
				t.Fatal("it is asked again")
			}
			id := frame.Header().StreamID
			long := block(t, ":status", "200", "content-type", "application/grpc", "long", strings.Repeat("~", maxAnswerHeaders))
			assert.NilError(t, frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: long[:maxAnswerHeaders]}))
			assert.NilError(t, frames.WriteContinuation(id, true, long[maxAnswerHeaders:]))
			// It may have ended by now; otherwise it hears that it is alive.
			_ = frames.WriteData(id, false, []byte{0, 0, 0, 0, 2, 8, 1})
			_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(t, "grpc-status", "0"), EndStream: true, EndHeaders: true})
		}
	}
}

func TestHeadersOfASessionAreReadHoweverTheyAreCut(t *testing.T) {
	frames := func(flags http2.Flags, fields []byte) string {
		var made bytes.Buffer
		framer := http2.NewFramer(&made, nil)
		half := len(fields) / 2
		assert.NilError(t, framer.WriteRawFrame(http2.FrameHeaders, flags, 1, fields[:half]))
		assert.NilError(t, framer.WriteContinuation(1, false, fields[half:]))
		assert.NilError(t, framer.WriteContinuation(1, true, nil))
		assert.NilError(t, framer.WriteData(1, false, make([]byte, maxAnswerHeaders)))
		return made.String()
	}
	fields := func(length int) []byte {
		return block(t, ":status", "200", "text", strings.Repeat("~", length))
	}
	var repeated bytes.Buffer
	encoder := hpack.NewEncoder(&repeated)
	for range 10 {
		assert.NilError(t, encoder.WriteField(hpack.HeaderField{Name: "text-bin", Value: strings.Repeat("A", 4000)}))
	}
	for name, of := range map[string]struct {
		text string
		want bool
	}{
		"short":              {frames(0, fields(1000)), true},
		"two of a call":      {frames(0, fields(1000)) + frames(0, fields(1000)), true},
		"long":               {frames(0, fields(maxAnswerHeaders)), false},
		"long at the end":    {frames(http2.FlagHeadersEndStream, fields(maxAnswerHeaders)), true},
		"longer at the end":  {frames(http2.FlagHeadersEndStream, fields(maxTrailers)), false},
		"one, by references": {frames(0, repeated.Bytes()), false},
	} {
		for _, length := range []int{1, 5, 9, 10, 4096, len(of.text)} {
			var headers answerHeaders
			var err error
			for at := 0; at < len(of.text) && err == nil; at += length {
				err = headers.take([]byte(of.text[at:min(at+length, len(of.text))]), headers.part)
			}
			assert.Equal(t, err == nil, of.want, "%s: %v", name, err)
		}
	}
}

// noSecrets fails to read secrets.
type noSecrets struct{}

func (noSecrets) GetSecret(context.Context, string) ([]byte, error) {
	return nil, errors.New("no secrets today")
}

func TestAnErrorOfASessionIsToldHoweverLongItsCommandIs(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	arguments := os.Args
	defer func() { os.Args = arguments }()
	os.Args = append(slices.Clone(arguments), "--build-arg", strings.Repeat("x", 20_000))
	definition, err := llb.HTTP("http://127.0.0.1:1/file", llb.AuthHeaderSecret("secret")).Marshal(t.Context())
	assert.NilError(t, err)
	attached := []session.Attachable{secretsprovider.NewSecretProvider(noSecrets{})}
	_, err = connect().Solve(t.Context(), definition, client.SolveOpt{Session: attached}, nil)
	assert.Check(t, is.ErrorContains(err, "no secrets today"))
}
