package host

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sockerless/sockerless/agent/core/version"
	"github.com/sockerless/sockerless/agent/host/containers"
	"github.com/sockerless/sockerless/agent/host/disk"
	"github.com/sockerless/sockerless/agent/host/layers"
	"github.com/sockerless/sockerless/agent/host/machine"
	"github.com/sockerless/sockerless/agent/host/network"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/host/v1/hostv1connect"
)

// service implements HostService: each call delegates to one call of another
// package.
type service struct {
	hostv1connect.UnimplementedHostServiceHandler // what later methods of the contract answer until they are here

	containers   *containers.Containers
	layers       *layers.Store
	volumes      *volumes.Store
	network      *network.Instance
	paths        *userpaths.Looks
	layerMeter   *disk.Meter
	volumeMeter  *disk.Meter // apart: a volume may be on a file system that does not answer
	runtime      *probe
	storedSocket string
}

// answer converts a call's results to a handler's.
func answer[T any](response *T, err error) (*connect.Response[T], error) {
	if err != nil {
		return nil, wireError(err)
	}
	return connect.NewResponse(response), nil
}

func (s *service) Hello(ctx context.Context, _ *connect.Request[hostv1.HelloRequest]) (*connect.Response[hostv1.HelloResponse], error) {
	runtime, err := s.runtime.wait(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	features, err := machine.Inspect()
	return answer(&hostv1.HelloResponse{
		Version: version.Version, RuntimeName: runtime.Name, RuntimeVersion: runtime.Version, RuntimePath: runtime.Path,
		RuntimeCommit: runtime.Commit, CgroupVersion: features.CgroupVersion, CgroupControllers: features.CgroupControllers,
		VolumeDrivers: s.volumes.Drivers(),
		StoredSocket:  s.storedSocket, Seccomp: features.Seccomp, Apparmor: features.AppArmor, Selinux: features.SELinux,
	}, err)
}

func (s *service) CreateContainer(ctx context.Context, r *connect.Request[hostv1.CreateContainerRequest]) (*connect.Response[hostv1.CreateContainerResponse], error) {
	return answer(&hostv1.CreateContainerResponse{}, s.containers.Create(ctx, r.Msg))
}

func (s *service) LaunchContainer(ctx context.Context, r *connect.Request[hostv1.LaunchContainerRequest]) (*connect.Response[hostv1.LaunchContainerResponse], error) {
	return answer(s.containers.Launch(ctx, r.Msg))
}

func (s *service) ReleaseContainer(ctx context.Context, r *connect.Request[hostv1.ReleaseContainerRequest]) (*connect.Response[hostv1.ReleaseContainerResponse], error) {
	if r.Msg.UnlessKept {
		kept, err := s.containers.ReleaseUnlessKept(ctx, r.Msg.ContainerId)
		return answer(&hostv1.ReleaseContainerResponse{Kept: kept}, err)
	}
	return answer(&hostv1.ReleaseContainerResponse{}, s.containers.Release(ctx, r.Msg.ContainerId))
}

func (s *service) RemoveContainer(ctx context.Context, r *connect.Request[hostv1.RemoveContainerRequest]) (*connect.Response[hostv1.RemoveContainerResponse], error) {
	return answer(&hostv1.RemoveContainerResponse{}, s.containers.Remove(ctx, r.Msg.ContainerId))
}

func (s *service) ListContainers(_ context.Context, r *connect.Request[hostv1.ListContainersRequest]) (*connect.Response[hostv1.ListContainersResponse], error) {
	found, err := s.containers.List(r.Msg.ContainerIds)
	return answer(&hostv1.ListContainersResponse{Containers: found}, err)
}

func (s *service) UnpackLayer(ctx context.Context, r *connect.Request[hostv1.UnpackLayerRequest]) (*connect.Response[hostv1.UnpackLayerResponse], error) {
	layer, existed, err := s.layers.Unpack(ctx, r.Msg.DiffId, r.Msg.BlobPath)
	return answer(&hostv1.UnpackLayerResponse{Size: layer.Size, Existed: existed, TarSize: layer.TarSize}, err)
}

// TakeUpload lasts until the caller ends it, after taking what it needs.
func (s *service) TakeUpload(ctx context.Context, r *connect.Request[hostv1.TakeUploadRequest], stream *connect.ServerStream[hostv1.TakeUploadResponse]) (err error) {
	upload, err := s.layers.OpenUpload(r.Msg.UploadId, r.Msg.BlobPath)
	if err != nil {
		return wireError(err)
	}
	defer func() { err = errors.Join(err, upload.Close()) }()
	ready := &hostv1.TakeUploadResponse_Ready{Ready: &hostv1.UploadReady{}}
	if err := stream.Send(&hostv1.TakeUploadResponse{Message: ready}); err != nil {
		return err
	}
	select {
	case <-upload.Done():
	case <-ctx.Done():
		return wireError(context.Cause(ctx))
	}
	taken, err := upload.Taken()
	if err != nil {
		return wireError(err)
	}
	told := &hostv1.TakeUploadResponse_Taken{Taken: &hostv1.UploadTaken{
		Digest: taken.Digest, Size: taken.Size, DiffId: taken.DiffID, TarSize: taken.TarSize, Compression: taken.Compression,
	}}
	if err := stream.Send(&hostv1.TakeUploadResponse{Message: told}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// TakeArchive lasts until the caller ends it, after taking what it needs.
func (s *service) TakeArchive(ctx context.Context, r *connect.Request[hostv1.TakeArchiveRequest], stream *connect.ServerStream[hostv1.TakeArchiveResponse]) (err error) {
	upload, err := s.layers.OpenImageUpload(r.Msg.UploadId, r.Msg.Directory)
	if err != nil {
		return wireError(err)
	}
	defer func() { err = errors.Join(err, upload.Close()) }()
	if err := stream.Send(&hostv1.TakeArchiveResponse{Message: &hostv1.TakeArchiveResponse_Ready{Ready: &hostv1.UploadReady{}}}); err != nil {
		return err
	}
	for isOpen := true; isOpen; {
		var entry *hostv1.ArchiveEntry
		select {
		case entry, isOpen = <-upload.Entries:
		case <-ctx.Done():
			return wireError(context.Cause(ctx))
		}
		if isOpen {
			err = stream.Send(&hostv1.TakeArchiveResponse{Message: &hostv1.TakeArchiveResponse_Entry{Entry: entry}})
		} else if err = upload.Err(); err == nil {
			err = stream.Send(&hostv1.TakeArchiveResponse{Message: &hostv1.TakeArchiveResponse_End{End: &hostv1.ArchiveTaken{}}})
		}
		if err != nil {
			return wireError(err)
		}
	}
	<-ctx.Done()
	return nil
}

// OfferArchive lasts until the caller ends it.
func (s *service) OfferArchive(ctx context.Context, r *connect.Request[hostv1.OfferArchiveRequest], stream *connect.ServerStream[hostv1.OfferArchiveResponse]) error {
	forget, err := s.layers.OfferArchive(r.Msg.ArchiveId, r.Msg.Parts)
	if err != nil {
		return wireError(err)
	}
	defer forget()
	if err := stream.Send(&hostv1.OfferArchiveResponse{}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (s *service) RemoveLayer(ctx context.Context, r *connect.Request[hostv1.RemoveLayerRequest]) (*connect.Response[hostv1.RemoveLayerResponse], error) {
	return answer(&hostv1.RemoveLayerResponse{}, s.layers.Remove(ctx, r.Msg.DiffId))
}

func (s *service) ListLayers(context.Context, *connect.Request[hostv1.ListLayersRequest]) (*connect.Response[hostv1.ListLayersResponse], error) {
	found, err := s.layers.List()
	return answer(&hostv1.ListLayersResponse{DiffIds: found}, err)
}

func (s *service) EnsureNetwork(_ context.Context, r *connect.Request[hostv1.EnsureNetworkRequest]) (*connect.Response[hostv1.EnsureNetworkResponse], error) {
	return answer(&hostv1.EnsureNetworkResponse{}, s.network.Ensure(network.Bridge{
		Name: r.Msg.Bridge, Gateway: r.Msg.Gateway, Internal: r.Msg.Internal, Isolate: r.Msg.Isolate, Alone: r.Msg.Alone,
		Given: r.Msg.Given, MTU: r.Msg.Mtu, Unaddressed: r.Msg.Unaddressed, Apart: r.Msg.Apart, Unmasked: r.Msg.Unmasked,
		Source: r.Msg.Source,
	}))
}

func (s *service) RemoveNetwork(_ context.Context, r *connect.Request[hostv1.RemoveNetworkRequest]) (*connect.Response[hostv1.RemoveNetworkResponse], error) {
	return answer(&hostv1.RemoveNetworkResponse{}, s.network.Remove(r.Msg.Bridge))
}

func (s *service) ConnectContainer(ctx context.Context, r *connect.Request[hostv1.ConnectContainerRequest]) (*connect.Response[hostv1.ConnectContainerResponse], error) {
	return answer(&hostv1.ConnectContainerResponse{}, s.containers.Connect(ctx, r.Msg))
}

func (s *service) DisconnectContainer(ctx context.Context, r *connect.Request[hostv1.DisconnectContainerRequest]) (*connect.Response[hostv1.DisconnectContainerResponse], error) {
	return answer(&hostv1.DisconnectContainerResponse{}, s.containers.Disconnect(ctx, r.Msg))
}

func (s *service) InspectMachine(context.Context, *connect.Request[hostv1.InspectMachineRequest]) (*connect.Response[hostv1.InspectMachineResponse], error) {
	routes, err := s.network.Routes()
	if err != nil {
		return nil, wireError(err)
	}
	resolver, err := machine.ResolvConf()
	return answer(&hostv1.InspectMachineResponse{Routes: routes, ResolvConf: resolver, Now: timestamppb.Now()}, err)
}

func (s *service) LookUpPaths(ctx context.Context, r *connect.Request[hostv1.LookUpPathsRequest]) (*connect.Response[hostv1.LookUpPathsResponse], error) {
	return answer(s.paths.At(ctx, r.Msg))
}

func (s *service) CreateVolume(ctx context.Context, r *connect.Request[hostv1.CreateVolumeRequest]) (*connect.Response[hostv1.CreateVolumeResponse], error) {
	return answer(s.volumes.Create(ctx, r.Msg))
}

func (s *service) RemoveVolume(ctx context.Context, r *connect.Request[hostv1.RemoveVolumeRequest]) (*connect.Response[hostv1.RemoveVolumeResponse], error) {
	return answer(&hostv1.RemoveVolumeResponse{}, s.volumes.Remove(ctx, r.Msg.Name))
}

func (s *service) ListVolumes(context.Context, *connect.Request[hostv1.ListVolumesRequest]) (*connect.Response[hostv1.ListVolumesResponse], error) {
	found, err := s.volumes.List()
	return answer(&hostv1.ListVolumesResponse{Volumes: found}, err)
}

// WatchVolumes lasts until the caller ends it.
func (s *service) WatchVolumes(ctx context.Context, _ *connect.Request[hostv1.WatchVolumesRequest], stream *connect.ServerStream[hostv1.WatchVolumesResponse]) error {
	return wireError(s.volumes.WatchRoom(ctx, stream.Send))
}
