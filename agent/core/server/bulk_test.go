package server

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func framed(t *testing.T, messages ...*agentv1.SessionRequest) []byte {
	t.Helper()
	var stream []byte
	for _, message := range messages {
		encoded, err := proto.Marshal(message)
		assert.NilError(t, err)
		stream = append(stream, 0)
		stream = binary.BigEndian.AppendUint32(stream, uint32(len(encoded)))
		stream = append(stream, encoded...)
	}
	return stream
}

func stdinAt(offset uint64, data []byte) *agentv1.SessionRequest {
	return &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Stdin{Stdin: &agentv1.Stdin{Offset: offset, Data: data}}}
}

const stdinTag = 3<<3 | 2

func TestBulkDataIsTakenOutAndOtherMessagesAreConnects(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 20_000)
	closing := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}}
	heartbeat := &agentv1.SessionRequest{Message: &agentv1.SessionRequest_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	stream := framed(t, stdinAt(0, []byte("a")), heartbeat, stdinAt(1, long), stdinAt(uint64(1+len(long)), []byte("bc")), closing)
	for name, source := range map[string]io.Reader{
		"whole":        bytes.NewReader(stream),
		"byte by byte": iotest.OneByteReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			body := &bulkBody{body: io.NopCloser(source), tag: stdinTag}
			var data, others []byte
			buffer := make([]byte, 1000)
			for {
				offset, length, bulk := body.next(func(error) {})
				if bulk {
					assert.Assert(t, offset == uint64(len(data)), "offset %d after %d bytes", offset, len(data))
					for end := len(data) + length; len(data) < end; {
						n, err := body.data(func(error) {}, buffer)
						assert.NilError(t, err)
						data = append(data, buffer[:n]...)
					}
					continue
				}
				// As connect reads: the prefix, then the message.
				prefix := make([]byte, framePrefix)
				if _, err := io.ReadFull(body, prefix); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				message := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
				_, err := io.ReadFull(body, message)
				assert.NilError(t, err)
				others = append(append(others, prefix...), message...)
			}
			if want := "a" + string(long) + "bc"; string(data) != want {
				t.Errorf("%d bytes of data, expected %d", len(data), len(want))
			}
			if want := framed(t, heartbeat, closing); !bytes.Equal(others, want) {
				t.Errorf("left to connect: %x, expected %x", others, want)
			}
		})
	}
}

func TestABodyThatIsCutIsNoEnd(t *testing.T) {
	stream := framed(t, stdinAt(0, bytes.Repeat([]byte("x"), 100)))
	for cut := 1; cut < len(stream); cut++ {
		body := &bulkBody{body: io.NopCloser(bytes.NewReader(stream[:cut])), tag: stdinTag}
		var err error
		if _, length, bulk := body.next(func(error) {}); bulk {
			for err == nil && length > 0 {
				var n int
				n, err = body.data(func(error) {}, make([]byte, 64))
				length -= n
			}
		} else {
			message := make([]byte, len(stream))
			_, err = io.ReadFull(body, message)
		}
		if err == nil || err == io.EOF {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
	}
}

func FuzzABulkHeadIsNeverReadBeyondItsMessage(f *testing.F) {
	f.Add(framed(&testing.T{}, stdinAt(5, []byte("data")))[framePrefix:], 12)
	f.Add([]byte{stdinTag, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 11)
	f.Fuzz(func(t *testing.T, head []byte, size int) {
		if size < 0 || len(head) > min(size, maxBulkHead) {
			return
		}
		_, start, bulk := parseBulkHead(head, size, stdinTag)
		if bulk && (start > len(head) || start > size) {
			t.Fatalf("data at %d in %d bytes", start, size)
		}
	})
}
