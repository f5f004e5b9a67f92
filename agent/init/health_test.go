package containerinit_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/log"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestHealthIsProbedOnTheAgentsSchedule(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none})
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	defer watch.Close()
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "forever"), HealthCheck: &agentv1.HealthCheck{
		Args: []string{"probe", "say", "not well", "1"}, IntervalNs: uint64(10 * time.Millisecond), TimeoutNs: uint64(10 * time.Second)}})
	for results := 0; results < 2 && watch.Receive(); {
		if health := watch.Msg().GetHealth(); health != nil {
			results++
			if health.ExitCode != 1 || string(health.Output) != "not well" {
				t.Errorf("health %v", health)
			}
		}
	}
	must(t, watch.Err())
}

func TestALogIsDrainedAsRecordsThatReadTheSame(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true, AwaitAttachIds: []string{"a"}})
	c.write("first\nsecond\n")
	c.closeStdin()
	c.exit()
	stream, err := client.Logs(patience(t), connect.NewRequest(&agentv1.LogsRequest{Records: true}))
	must(t, err)
	defer stream.Close()
	var records []byte
	for stream.Receive() {
		records = append(records, stream.Msg().GetChunk().GetData()...)
	}
	must(t, stream.Err())
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "0000000000000001.log"), records, 0o600))
	stored, err := log.Stored(dir, log.ReadOptions{Stdout: true, Timestamps: true})
	must(t, err)
	defer stored.Close()
	chunk, err := stored.Next(t.Context())
	must(t, err)
	if told, _ := logs(t, client, &agentv1.LogsRequest{Stdout: true, Timestamps: true}); told != string(chunk.Data) {
		t.Errorf("%q instead of %q", chunk.Data, told)
	}
	refused, err := client.Logs(patience(t), connect.NewRequest(&agentv1.LogsRequest{Records: true, Stdout: true}))
	must(t, err)
	defer refused.Close()
	if refused.Receive() || connect.CodeOf(refused.Err()) != connect.CodeInvalidArgument {
		t.Errorf("records of one stream: %v", refused.Err())
	}
}
