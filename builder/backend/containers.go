package backend

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"

	"connectrpc.com/connect"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// attemptsAtAgent bounds how often the backend is asked for an agent anew because the last one was leaving.
const attemptsAtAgent = 6

// CreateContainer creates a build's container, and returns its ID and the backend's warnings. A call that has begun
// continues after its build is cancelled, because only its response identifies the container to remove.
func (c *Client) CreateContainer(ctx context.Context, config *backendv1.ContainerConfig, host *backendv1.HostConfig) (id string, warnings []string, err error) {
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[Label] = "container"
	if ctx.Err() != nil {
		return "", nil, context.Cause(ctx)
	}
	response, err := c.Containers.CreateContainer(context.WithoutCancel(ctx), connect.NewRequest(&backendv1.CreateContainerRequest{
		ClientToken: rand.Text(), Config: config, HostConfig: host,
	}))
	if err != nil {
		return "", nil, err
	}
	return response.Msg.Id, response.Msg.Warnings, nil
}

// RemoveContainer removes a container, running or not. A missing one is not an error.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	_, err := c.Containers.RemoveContainer(ctx, connect.NewRequest(&backendv1.RemoveContainerRequest{
		Container: id, Force: true, Volumes: true,
	}))
	if Is(err, connect.CodeNotFound) {
		return nil
	}
	return err
}

// HasVolume reports whether a volume exists.
func (c *Client) HasVolume(ctx context.Context, name string) (bool, error) {
	_, err := c.Volumes.InspectVolume(ctx, connect.NewRequest(&backendv1.InspectVolumeRequest{Name: name}))
	if Is(err, connect.CodeNotFound) {
		return false, nil
	}
	return err == nil, err
}

// VolumesOf lists the volumes with a name prefix. Those who ask while others are being listed share the next list.
func (c *Client) VolumesOf(ctx context.Context, prefix string) ([]string, error) {
	shared := context.WithoutCancel(ctx)
	listed := c.lists.DoChan(prefix, func() (any, error) {
		if err := c.volumes.Acquire(shared, 1); err != nil {
			return nil, err
		}
		defer c.volumes.Release(1)
		c.lists.Forget(prefix) // This list may lack what was made before somebody else asks.
		return c.listVolumes(shared, prefix)
	})
	select {
	case list := <-listed:
		names, _ := list.Val.([]string)
		return names, list.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *Client) listVolumes(ctx context.Context, prefix string) ([]string, error) {
	response, err := c.Volumes.ListVolumes(ctx, connect.NewRequest(&backendv1.ListVolumesRequest{
		Filters: map[string]*backendv1.StringList{"name": {Values: []string{prefix}}},
	}))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, volume := range response.Msg.Volumes {
		if strings.HasPrefix(volume.Name, prefix) {
			names = append(names, volume.Name)
		}
	}
	return names, nil
}

// RemoveUnusedVolume removes a volume unless a container uses it. It does not force, because clouds would then remove
// it from a running container.
func (c *Client) RemoveUnusedVolume(ctx context.Context, name string) error {
	_, err := c.Volumes.RemoveVolume(ctx, connect.NewRequest(&backendv1.RemoveVolumeRequest{Name: name}))
	if Is(err, connect.CodeAlreadyExists) || Is(err, connect.CodeNotFound) {
		return nil
	}
	return err
}

// LeftContainers lists the containers left by an earlier builder that was killed.
func (c *Client) LeftContainers(ctx context.Context) (ids []string, err error) {
	response, err := c.Containers.ListContainers(ctx, connect.NewRequest(&backendv1.ListContainersRequest{
		All: true, Filters: map[string]*backendv1.StringList{"label": {Values: []string{Label}}},
	}))
	if err != nil {
		return nil, err
	}
	for _, container := range response.Msg.Containers {
		ids = append(ids, container.Id)
	}
	return ids, nil
}

// Secrets are given to a container for one start only.
type Secrets struct {
	Files []*backendv1.SecretFile
	// Variables, NAME=value.
	Env []string
}

// StartContainer starts a container with secrets. If there are any, it fails when the backend goes away meanwhile,
// since it is then unknown whether the container has them.
func (c *Client) StartContainer(ctx context.Context, id string, secrets Secrets) error {
	return c.start(ctx, startOf(id, secrets))
}

func startOf(id string, secrets Secrets) *backendv1.StartContainerRequest {
	return &backendv1.StartContainerRequest{Container: id, ClientToken: rand.Text(), Secrets: secrets.Files, SecretEnv: secrets.Env}
}

func (c *Client) start(ctx context.Context, request *backendv1.StartContainerRequest) error {
	_, err := c.Containers.StartContainer(ctx, connect.NewRequest(request))
	if isAway(err) && !mayRepeat(request) && ctx.Err() == nil {
		return errAway("the backend went away while it started a step with secrets, which is not repeated", err)
	}
	return err
}

// Info describes the backend and how its containers run.
func (c *Client) Info(ctx context.Context) (*backendv1.GetInfoResponse, error) {
	response, err := c.System.GetInfo(ctx, connect.NewRequest(&backendv1.GetInfoRequest{}))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

// ContinueContainer starts the next step in the container of the last one, whose changes were committed to an image:
// the backend adds the layers that the step's image has on top of that.
func (c *Client) ContinueContainer(ctx context.Context, id, committed, image string, config *backendv1.ContainerConfig, secrets Secrets) error {
	request := startOf(id, secrets)
	request.NextStep = &backendv1.NextStep{Image: image, Config: config, Committed: committed}
	return c.start(ctx, request)
}

// Follow copies the output of a container's run, and returns its exit code once it has ended. The log of a continued
// container also holds its earlier runs.
func (c *Client) Follow(ctx context.Context, id string, isContinued bool, stdout, stderr io.Writer) (int64, error) {
	var since *int64
	if isContinued {
		inspected, err := c.Containers.InspectContainer(ctx, connect.NewRequest(&backendv1.InspectContainerRequest{Container: id}))
		if err != nil {
			return 0, err
		}
		begun := inspected.Msg.Container.State.StartedAt.AsTime().UnixNano()
		since = &begun
	}
	// The exit is requested concurrently with the output, which takes the time. An agent may outlive the backend's
	// absence, so a question that failed meanwhile is repeated.
	type ended struct {
		code int64
		err  error
	}
	early := make(chan ended, 1)
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		code, err := c.wait(waiting, id)
		early <- ended{code, err}
	}()
	if err := c.copyLogs(ctx, id, since, stdout, stderr); err != nil {
		return 0, err
	}
	if told := <-early; told.err == nil {
		return told.code, nil
	}
	return c.wait(ctx, id)
}

// wait returns a run's exit code once it has ended.
func (c *Client) wait(ctx context.Context, id string) (int64, error) {
	var exited *backendv1.WaitExited
	err := patiently(ctx, func() error {
		stream, err := c.Containers.WaitContainer(ctx, connect.NewRequest(&backendv1.WaitContainerRequest{
			Container: id, Condition: backendv1.WaitCondition_WAIT_CONDITION_NOT_RUNNING,
		}))
		return receive(stream, err, func(message *backendv1.WaitContainerResponse) (bool, error) {
			exited = message.GetExited()
			return exited != nil, nil
		})
	})
	if err != nil {
		return 0, err
	}
	if exited.Error != "" {
		return 0, errors.New(exited.Error)
	}
	return exited.ExitCode, nil
}

// copyLogs follows a container's output to its end. If its agent leaves meanwhile, the log is read from its successor.
func (c *Client) copyLogs(ctx context.Context, id string, since *int64, stdout, stderr io.Writer) error {
	var failed *uint64
	var sent uint64
	for attempt := 1; ; attempt++ {
		opened, err := c.Containers.OpenLogs(ctx, connect.NewRequest(&backendv1.OpenLogsRequest{Container: id, Access: reach(failed)}))
		if err != nil {
			return err
		}
		err = c.copyLogsOf(ctx, opened.Msg.Endpoint, since, &sent, stdout, stderr)
		if err == nil || attempt == attemptsAtAgent || ctx.Err() != nil {
			return err
		}
		failed = nil
		// A cut relay means that the backend restarts.
		if opened.Msg.Endpoint.GetRelay() == nil || !isAway(err) {
			generation := opened.Msg.Endpoint.Generation
			failed = &generation
		}
	}
}

func (c *Client) copyLogsOf(ctx context.Context, endpoint *backendv1.AgentEndpoint, since *int64, sent *uint64, stdout, stderr io.Writer) error {
	agent, done, err := c.agentOf(endpoint)
	if err != nil {
		return err
	}
	defer done()
	stream, err := agent.Logs(ctx, connect.NewRequest(&agentv1.LogsRequest{Stdout: true, Stderr: true, Follow: true, SinceUnixNs: since}))
	return receive(stream, err, func(message *agentv1.LogsResponse) (bool, error) {
		chunk := message.GetChunk()
		data := chunk.GetData()
		if chunk.GetOffset()+uint64(len(data)) <= *sent {
			return message.GetEnd() != nil, nil
		}
		if chunk.Offset < *sent {
			data = data[*sent-chunk.Offset:]
		}
		*sent = chunk.Offset + uint64(len(chunk.Data))
		to := stdout
		if chunk.Stream == agentv1.Stream_STREAM_STDERR {
			to = stderr
		}
		_, err := to.Write(data)
		return false, err
	})
}

// ReadArchive passes a path of a container's files to `read` as a tar whose top entry is the path's last element. If
// `read` returns early, the rest is not sent. It is called again, with the whole tar, if the backend restarts
// meanwhile.
func (c *Client) ReadArchive(ctx context.Context, id, path string, read func(*tar.Reader) error) error {
	return patiently(ctx, func() error { return c.readArchive(ctx, id, &agentv1.ArchiveGetRequest{Path: path}, read) })
}

// ReadEntries passes the entries of absolute paths to `read` as a tar, without their content and what is beneath them.
// Missing ones are left out. For the rest see ReadArchive.
func (c *Client) ReadEntries(ctx context.Context, id string, paths []string, read func(*tar.Reader) error) error {
	return patiently(ctx, func() error {
		return c.readArchive(ctx, id, &agentv1.ArchiveGetRequest{Path: "/", Entries: paths}, read)
	})
}

func (c *Client) readArchive(ctx context.Context, id string, request *agentv1.ArchiveGetRequest, read func(*tar.Reader) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opened, err := c.Containers.OpenArchive(ctx, connect.NewRequest(&backendv1.OpenArchiveRequest{Container: id, Access: reach(nil)}))
	if err != nil {
		return err
	}
	agent, done, err := c.agentOf(opened.Msg.Endpoint)
	if err != nil {
		return err
	}
	defer done()
	stream, err := agent.ArchiveGet(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	defer stream.Close()
	content := &chunks{next: func() ([]byte, bool, error) {
		if !stream.Receive() {
			return nil, false, endOf(stream.Err())
		}
		return stream.Msg().GetChunk().GetData(), stream.Msg().GetEnd() != nil, nil
	}}
	// A refusal comes as the stream's first message, not in the tar.
	if err := content.fill(); err != nil && err != io.EOF {
		return err
	}
	return read(tar.NewReader(content))
}

// chunks reads the data of a stream's messages.
type chunks struct {
	// Returns a message's data, and whether it is the last one.
	next  func() (data []byte, isLast bool, err error)
	left  []byte
	ended bool
}

func (c *chunks) fill() (err error) {
	for len(c.left) == 0 && !c.ended {
		if c.left, c.ended, err = c.next(); err != nil {
			return err
		}
	}
	if len(c.left) == 0 {
		return io.EOF
	}
	return nil
}

func (c *chunks) Read(into []byte) (int, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	n := copy(into, c.left)
	c.left = c.left[n:]
	return n, nil
}

// chunkBytes is the message size of tars.
const chunkBytes = 256 << 10

// receive passes the messages of an opened stream to `take`, which returns true for the last one. A stream that ends
// before it was cut.
func receive[M any](stream *connect.ServerStreamForClient[M], err error, take func(*M) (bool, error)) error {
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		if isLast, err := take(stream.Msg()); isLast || err != nil {
			return err
		}
	}
	return endOf(stream.Err())
}

func endOf(err error) error {
	if err == nil {
		return errCut
	}
	return err
}
