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

// attemptsAtAgent bounds how often the backend is asked anew for an agent that was leaving.
const attemptsAtAgent = 6

// CreateContainer makes a container of a build, and answers its ID and what the backend has to say of it. The call outlives
// a build that is cancelled: its answer alone tells what there is to remove.
func (c *Client) CreateContainer(ctx context.Context, config *backendv1.ContainerConfig, host *backendv1.HostConfig) (id string, warnings []string, err error) {
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[Label] = "container"
	if ctx.Err() != nil {
		return "", nil, context.Cause(ctx)
	}
	unbound := context.WithoutCancel(ctx)
	response, err := c.Containers.CreateContainer(unbound, connect.NewRequest(&backendv1.CreateContainerRequest{
		ClientToken: rand.Text(), Config: config, HostConfig: host,
	}))
	if err != nil {
		return "", nil, err
	}
	if ctx.Err() != nil {
		return "", nil, errors.Join(context.Cause(ctx), c.RemoveContainer(unbound, response.Msg.Id))
	}
	return response.Msg.Id, response.Msg.Warnings, nil
}

// RemoveContainer takes a container away, running or not. One that is not there is no error.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	_, err := c.Containers.RemoveContainer(ctx, connect.NewRequest(&backendv1.RemoveContainerRequest{
		Container: id, Force: true, Volumes: true,
	}))
	if Is(err, connect.CodeNotFound) {
		return nil
	}
	return err
}

// HasVolume reports whether there is a volume of a name.
func (c *Client) HasVolume(ctx context.Context, name string) (bool, error) {
	_, err := c.Volumes.InspectVolume(ctx, connect.NewRequest(&backendv1.InspectVolumeRequest{Name: name}))
	if Is(err, connect.CodeNotFound) {
		return false, nil
	}
	return err == nil, err
}

// VolumesOf lists the volumes whose names begin with a text.
func (c *Client) VolumesOf(ctx context.Context, prefix string) ([]string, error) {
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

// RemoveUnusedVolume takes a volume away, unless a container has it. By force clouds would take it from one that runs.
func (c *Client) RemoveUnusedVolume(ctx context.Context, name string) error {
	_, err := c.Volumes.RemoveVolume(ctx, connect.NewRequest(&backendv1.RemoveVolumeRequest{Name: name}))
	if Is(err, connect.CodeAlreadyExists) || Is(err, connect.CodeNotFound) {
		return nil
	}
	return err
}

// RemoveLeftContainers takes away what an earlier builder did not live to remove.
func (c *Client) RemoveLeftContainers(ctx context.Context) error {
	response, err := c.Containers.ListContainers(ctx, connect.NewRequest(&backendv1.ListContainersRequest{
		All: true, Filters: map[string]*backendv1.StringList{"label": {Values: []string{Label}}},
	}))
	if err != nil {
		return err
	}
	for _, container := range response.Msg.Containers {
		if err := c.RemoveContainer(ctx, container.Id); err != nil {
			return err
		}
	}
	return nil
}

// Secrets are what a container has for one start alone.
type Secrets struct {
	Files []*backendv1.SecretFile
	// Variables, NAME=value.
	Env []string
}

// StartContainer starts a container with secrets. With any, it is an error if the backend ends meanwhile: whether the
// container has them is not known then.
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

// Info tells what the backend is, and how its containers run.
func (c *Client) Info(ctx context.Context) (*backendv1.GetInfoResponse, error) {
	response, err := c.System.GetInfo(ctx, connect.NewRequest(&backendv1.GetInfoRequest{}))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

// ContinueContainer starts the next step in the container of the last one, from whose changes an image was made: the
// backend puts the layers into it that the step's image has above that.
func (c *Client) ContinueContainer(ctx context.Context, id, committed, image string, config *backendv1.ContainerConfig, secrets Secrets) error {
	request := startOf(id, secrets)
	request.NextStep = &backendv1.NextStep{Image: image, Config: config, Committed: committed}
	return c.start(ctx, request)
}

// Follow copies the output of a container's run as it comes, and answers its exit code once it has ended. Of one that was
// continued, earlier runs are in the same log.
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
	// The end is asked for beside the output, which is what takes time. An agent may outlast a backend that is away, so that
	// a question that failed meanwhile is asked once more.
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

// wait returns the exit code of a container's run once that has ended.
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

// copyLogs follows a container's output to its end. An agent that leaves meanwhile is replaced by whoever serves the
// log after it.
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
		// A relay that is cut is the backend that restarts.
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

// ReadArchive hands a path of a container's files to `read` as a tar whose top entry is the path's last element. The
// rest is not sent when `read` returns early. It is called again, for the whole, where a backend restarts meanwhile.
func (c *Client) ReadArchive(ctx context.Context, id, path string, read func(*tar.Reader) error) error {
	return patiently(ctx, func() error { return c.readArchive(ctx, id, path, read) })
}

func (c *Client) readArchive(ctx context.Context, id, path string, read func(*tar.Reader) error) error {
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
	stream, err := agent.ArchiveGet(ctx, connect.NewRequest(&agentv1.ArchiveGetRequest{Path: path}))
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
	// A refusal is the stream's first word, not the tar's.
	if err := content.fill(); err != nil && err != io.EOF {
		return err
	}
	return read(tar.NewReader(content))
}

// chunks is what a stream's messages have in them.
type chunks struct {
	// Answers a message's data, and whether it was the last one.
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

// chunkBytes is the size of the pieces in which tars are sent.
const chunkBytes = 256 << 10

// receive hands the messages of a stream that was opened to `take`, which answers true of the last one. A stream that
// ends before is cut.
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
