package containerinit

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// terms are how the container ends: as its last start said, or else as the
// agent's settings say.
type terms struct {
	linger      time.Duration // after the main process's end
	drain       time.Duration // for a backend that is away at the end
	stopSignal  unix.Signal
	stopTimeout time.Duration // from stopSignal to SIGKILL; negative: never
}

// defaultStopTimeout is Docker's.
const defaultStopTimeout = 10 * time.Second

func termsOf(settings *settings, request *agentv1.StartRequest) terms {
	t := terms{settings.linger, settings.drain, settings.stopSignal, defaultStopTimeout}
	if request == nil {
		return t
	}
	if request.LingerSeconds != nil {
		t.linger = time.Duration(*request.LingerSeconds) * time.Second
	}
	if request.DrainTimeoutSeconds != nil {
		t.drain = time.Duration(*request.DrainTimeoutSeconds) * time.Second
	}
	if request.StopSignal != 0 {
		t.stopSignal = unix.Signal(request.StopSignal)
	}
	if request.StopTimeoutSeconds != nil {
		t.stopTimeout = time.Duration(*request.StopTimeoutSeconds) * time.Second
	}
	return t
}

// checkNames refuses names that would inject other content into the files.
func checkNames(request *agentv1.StartRequest) error {
	words := append(append([]string{request.Hostname}, request.GetResolver().GetSearch()...), request.GetResolver().GetOptions()...)
	addresses := slices.Clone(request.GetResolver().GetServers())
	for _, entry := range request.ExtraHosts {
		if len(entry.Names) == 0 {
			return fmt.Errorf("the hosts entry of %q has no name", entry.Address)
		}
		addresses = append(addresses, entry.Address)
		words = append(words, entry.Names...)
	}
	for _, address := range addresses {
		if _, err := netip.ParseAddr(address); err != nil {
			return fmt.Errorf("%q is no address", address)
		}
	}
	for _, word := range words {
		if strings.ContainsFunc(word, unicode.IsSpace) {
			return fmt.Errorf("the name %q holds a blank", word)
		}
	}
	return nil
}

// checkStart refuses invalid requests before anything is done.
func checkStart(request *agentv1.StartRequest) error {
	var err error
	switch {
	case len(request.GetProcess().GetArgs()) == 0:
		err = errors.New("a start needs a process with a command")
	case request.StopSignal < 0 || request.StopSignal > realTimeMax:
		err = fmt.Errorf("no such signal: %d", request.StopSignal)
	case slices.ContainsFunc(request.VolumeDirectories, isNoPlaceForVolume):
		err = fmt.Errorf("directories of volumes are absolute paths without dots, not all of %q", request.VolumeDirectories)
	default:
		err = checkNames(request)
	}
	if err == nil {
		return nil
	}
	return connect.NewError(connect.CodeInvalidArgument, err)
}

func isNoPlaceForVolume(directory string) bool {
	return !path.IsAbs(directory) || path.Clean(directory) != directory || directory == "/"
}
