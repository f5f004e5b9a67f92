// Package sdk drives sockerless with Docker's own Go client: what compiles
// against moby v28 must work. DOCKER_HOST says where, TEST_IMAGE which image
// (it has busybox' sh, cat and sleep).
package sdk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/docker/docker/errdefs"
	"github.com/docker/docker/pkg/stdcopy"
)

func connect(t *testing.T) (*client.Client, context.Context) {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return docker, ctx
}

func create(t *testing.T, docker *client.Client, ctx context.Context, config container.Config) string {
	t.Helper()
	config.Image = os.Getenv("TEST_IMAGE")
	made, err := docker.ContainerCreate(ctx, &config, &container.HostConfig{}, nil, nil, "")
	if err != nil {
		t.Fatal("create:", err)
	}
	t.Cleanup(func() {
		err := docker.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true})
		if err != nil && !errdefs.IsNotFound(err) {
			t.Error("remove:", err)
		}
	})
	return made.ID
}

func TestVersionIsNegotiatedToTheNewest(t *testing.T) {
	docker, ctx := connect(t)
	if _, err := docker.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	docker.NegotiateAPIVersion(ctx)
	if version := docker.ClientVersion(); version != "1.51" {
		t.Errorf("negotiated %s", version)
	}
}

func TestAContainerRunsFromCreateToRemove(t *testing.T) {
	docker, ctx := connect(t)
	id := create(t, docker, ctx, container.Config{
		Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 7"},
	})
	wait, failed := docker.ContainerWait(ctx, id, container.WaitConditionNextExit)
	if err := docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		t.Fatal("start:", err)
	}
	select {
	case end := <-wait:
		if end.StatusCode != 7 {
			t.Errorf("exit code %d", end.StatusCode)
		}
	case err := <-failed:
		t.Fatal("wait:", err)
	}
	logs, err := docker.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal("logs:", err)
	}
	defer logs.Close()
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, logs); err != nil {
		t.Fatal("logs:", err)
	}
	if out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q", out.String(), errs.String())
	}
	inspected, err := docker.ContainerInspect(ctx, id)
	if err != nil {
		t.Fatal("inspect:", err)
	}
	if inspected.State.Status != "exited" || inspected.State.ExitCode != 7 {
		t.Errorf("state %+v", inspected.State)
	}
}

func TestAttachBeforeStartGetsTheFirstByteAndSendsStdin(t *testing.T) {
	docker, ctx := connect(t)
	id := create(t, docker, ctx, container.Config{
		Cmd: []string{"cat"}, OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true,
	})
	stream, err := docker.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true})
	if err != nil {
		t.Fatal("attach:", err)
	}
	defer stream.Close()
	if err := docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		t.Fatal("start:", err)
	}
	want := strings.Repeat("every byte comes back\n", 10_000)
	go func() {
		_, _ = io.WriteString(stream.Conn, want)
		_ = stream.CloseWrite()
	}()
	var got bytes.Buffer
	if _, err := stdcopy.StdCopy(&got, io.Discard, stream.Reader); err != nil {
		t.Fatal("attach:", err)
	}
	if got.String() != want {
		t.Errorf("%d bytes came back of %d", got.Len(), len(want))
	}
}

func TestAnExecsExitCodeIsThereWhenItsStreamEnds(t *testing.T) {
	docker, ctx := connect(t)
	id := create(t, docker, ctx, container.Config{Cmd: []string{"sleep", "1000"}})
	if err := docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		t.Fatal("start:", err)
	}
	for code := range 5 {
		made, err := docker.ContainerExecCreate(ctx, id, container.ExecOptions{
			Cmd: []string{"sh", "-c", "cat; exit " + string(rune('0'+code))}, AttachStdin: true, AttachStdout: true,
		})
		if err != nil {
			t.Fatal("exec create:", err)
		}
		stream, err := docker.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
		if err != nil {
			t.Fatal("exec start:", err)
		}
		_, _ = io.WriteString(stream.Conn, "hello")
		_ = stream.CloseWrite()
		var got bytes.Buffer
		if _, err := stdcopy.StdCopy(&got, io.Discard, stream.Reader); err != nil {
			t.Fatal("exec:", err)
		}
		stream.Close()
		inspected, err := docker.ContainerExecInspect(ctx, made.ID)
		if err != nil {
			t.Fatal("exec inspect:", err)
		}
		if got.String() != "hello" || inspected.Running || inspected.ExitCode != code {
			t.Errorf("output %q, %+v", got.String(), inspected)
		}
	}
}

func TestFilesGoInAndComeOut(t *testing.T) {
	docker, ctx := connect(t)
	id := create(t, docker, ctx, container.Config{Cmd: []string{"sleep", "600"}})
	if err := docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		t.Fatal("start:", err)
	}
	var packed bytes.Buffer
	writer := tar.NewWriter(&packed)
	if err := writer.WriteHeader(&tar.Header{Name: "note", Mode: 0o640, Size: 4}); err != nil {
		t.Fatal(err)
	}
	_, _ = writer.Write([]byte("text"))
	_ = writer.Close()
	if err := docker.CopyToContainer(ctx, id, "/", &packed, container.CopyToContainerOptions{}); err != nil {
		t.Fatal("copy in:", err)
	}
	stat, err := docker.ContainerStatPath(ctx, id, "/note")
	if err != nil {
		t.Fatal("stat:", err)
	}
	if stat.Name != "note" || stat.Size != 4 || stat.Mode.Perm() != 0o640 {
		t.Errorf("stat %+v", stat)
	}
	stream, _, err := docker.CopyFromContainer(ctx, id, "/note")
	if err != nil {
		t.Fatal("copy out:", err)
	}
	defer stream.Close()
	reader := tar.NewReader(stream)
	if _, err := reader.Next(); err != nil {
		t.Fatal("copy out:", err)
	}
	if content, _ := io.ReadAll(reader); string(content) != "text" {
		t.Errorf("content %q", content)
	}
}

func TestEventsTellTheStoryInOrder(t *testing.T) {
	docker, ctx := connect(t)
	id := create(t, docker, ctx, container.Config{Cmd: []string{"sh", "-c", "exit 3"}})
	messages, failed := docker.Events(ctx, events.ListOptions{
		Since:   "1",
		Filters: filters.NewArgs(filters.Arg("container", id)),
	})
	if err := docker.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		t.Fatal("start:", err)
	}
	var story []string
	for len(story) == 0 || story[len(story)-1] != "die" {
		select {
		case message := <-messages:
			if strings.HasPrefix(string(message.Action), "start_phase: ") {
				continue // A cloud tells these, too.
			}
			story = append(story, string(message.Action))
			if message.Action == events.ActionDie && message.Actor.Attributes["exitCode"] != "3" {
				t.Errorf("die with %v", message.Actor.Attributes)
			}
		case err := <-failed:
			t.Fatal("events:", err)
		}
	}
	if got := strings.Join(story, " "); got != "create start die" {
		t.Errorf("events %q", got)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	docker, ctx := connect(t)
	if _, err := docker.ContainerInspect(ctx, "nobody"); !errdefs.IsNotFound(err) {
		t.Errorf("inspect of nothing: %v", err)
	}
	_, err := docker.ContainerCreate(ctx, &container.Config{Image: "no/such:image"}, nil, nil, nil, "")
	if !errdefs.IsNotFound(err) {
		t.Errorf("create from nothing: %v", err)
	}
	id := create(t, docker, ctx, container.Config{Cmd: []string{"sleep", "1000"}})
	if err := docker.ContainerKill(ctx, id, "KILL"); !errdefs.IsConflict(err) {
		t.Errorf("kill of what does not run: %v", err)
	}
	_, err = docker.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: []string{"true"}})
	if !errdefs.IsConflict(err) {
		t.Errorf("exec in what does not run: %v", err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("it took too long")
	}
}
