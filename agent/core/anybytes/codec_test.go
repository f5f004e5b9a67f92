package anybytes

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// sent is a message as received.
func sent[Message proto.Message](t *testing.T, message, received Message) Message {
	t.Helper()
	encoded, err := codec{}.Marshal(message)
	assert.NilError(t, err)
	assert.NilError(t, (codec{}).Unmarshal(encoded, received))
	return received
}

func TestEachByteThatIsNoTextIsReplaced(t *testing.T) {
	made := &agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_Change{Change: &agentv1.Change{Path: "/caf\xe9\xff/é"}}}
	if path := sent(t, made, &agentv1.ChangesResponse{}).GetChange().GetPath(); path != "/caf��/é" {
		t.Errorf("%q", path)
	}
	if path := made.GetChange().GetPath(); path != "/caf\xe9\xff/é" {
		t.Errorf("the sender has %q now", path)
	}
}

func TestListsAreLegibleToo(t *testing.T) {
	made := &agentv1.TopResponse{Titles: []string{"PID", "C\xffMD"}, Processes: []*agentv1.ProcessRow{{Columns: []string{"1", "\xfe"}}}}
	received := sent(t, made, &agentv1.TopResponse{})
	if received.Titles[1] != "C�MD" || received.Processes[0].Columns[1] != "�" {
		t.Errorf("%v", received)
	}
}

func TestWhatIsLegibleIsSentAsItIs(t *testing.T) {
	made := &agentv1.Change{Path: "/é/\ufffd"}
	if received := sent(t, made, &agentv1.Change{}); !proto.Equal(received, made) {
		t.Errorf("%v", received)
	}
}

func TestAMessageOfAnotherKindIsRefused(t *testing.T) {
	if _, err := (codec{}).Marshal("text"); err == nil {
		t.Error("it is sent")
	}
}
