// Package local is Docker's driver of the same name: a directory, or a mount
// described by the volume's options.
package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/mount"

	"github.com/sockerless/sockerless/agent/host/disk"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Driver implements driver.Driver.
type Driver struct{}

// Traits returns the driver's name and rules.
func (Driver) Traits() *hostv1.VolumeDriver {
	return &hostv1.VolumeDriver{
		Name: "local", Sharing: hostv1.VolumeSharing_VOLUME_SHARING_SHARED,
		Content: hostv1.VolumeContent_VOLUME_CONTENT_HERE_WITHOUT_OPTIONS,
	}
}

var known = []string{"type", "o", "device", "size"}

// required are options that need another option.
var required = []struct{ option, with string }{
	{"device", "type"}, {"type", "device"}, {"o", "device"}, {"o", "type"},
}

// Check is moby's, with its messages.
func (Driver) Check(options map[string]string) error {
	for option := range options {
		if !slices.Contains(known, option) {
			return driver.Invalid("invalid option: %q", option)
		}
	}
	if options["type"] == "cifs" {
		device, err := url.Parse(options["device"])
		if err != nil {
			return driver.Invalid("error parsing mount device url: %v", err)
		}
		if device.Port() != "" {
			return driver.Invalid("port not allowed in CIFS device URL, include 'port' in 'o='")
		}
	}
	if text, given := options["size"]; given {
		size, err := units.RAMInBytes(text)
		if err != nil {
			return driver.Invalid("%v", err)
		}
		if size > 0 { // project quotas, which dockerd has on some file systems
			return driver.Invalid("quota size requested but no quota support")
		}
	}
	for _, each := range required {
		_, given := options[each.option]
		if _, complete := options[each.with]; given && !complete {
			return driver.Invalid("missing required option: %q", each.with)
		}
	}
	return nil
}

// Make needs only the directory.
func (Driver) Make(_ context.Context, v driver.Volume) (driver.Made, error) {
	return driver.Made{Mountpoint: v.Data(), Status: map[string]string{"format": "dir"}}, nil
}

// Mount mounts what the options describe.
func (Driver) Mount(_ context.Context, v driver.Volume) error {
	if v.Options["device"] == "" && v.Options["type"] == "" {
		return nil
	}
	device, options, err := resolved(v.Options, net.ResolveIPAddr)
	if err == nil {
		err = withoutPassword(mount.Mount(device, v.Data(), v.Options["type"], options), options)
	}
	if err != nil {
		return fmt.Errorf("error while mounting volume '%s': failed to mount local volume: %w", v.Data(), err)
	}
	return nil
}

// Measure returns the bytes of the volume's files.
func (Driver) Measure(ctx context.Context, v driver.Volume) (uint64, error) {
	return disk.Measure(ctx, v.Data())
}

// resolved converts options for mount(2), which needs addresses where users write
// names.
func resolved(given map[string]string, resolve func(network, name string) (*net.IPAddr, error)) (device, options string, err error) {
	device, options = given["device"], given["o"]
	if device == "" {
		return "", "", errors.New("missing device in volume options")
	}
	kind := given["type"]
	if kind != "nfs" && kind != "cifs" {
		return device, options, nil
	}
	if name := valueOf(options, "addr"); name != "" && net.ParseIP(name).To4() == nil {
		address, err := resolve("ip", name)
		if err != nil {
			return "", "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		return device, strings.Replace(options, "addr="+name, "addr="+address.String(), 1), nil
	}
	if kind == "nfs" {
		return device, options, nil
	}
	where, err := url.Parse(device)
	if err != nil {
		return "", "", fmt.Errorf("error parsing mount device url: %w", err)
	}
	if where.Host == "" || net.ParseIP(where.Host) != nil {
		return device, options, nil
	}
	address, err := resolve("ip", where.Host)
	if err != nil {
		return "", "", fmt.Errorf("error resolving passed in network volume address: %w", err)
	}
	where.Host = address.String()
	if device, err = url.QueryUnescape(where.String()); err != nil {
		return "", "", fmt.Errorf("failed to unescape device URL: %q", where)
	}
	return device, options, nil
}

func valueOf(options, name string) string {
	for option := range strings.SplitSeq(options, ",") {
		if value, found := strings.CutPrefix(option, name+"="); found {
			return value
		}
	}
	return ""
}

var password = regexp.MustCompile(`password=[^,]*`)

// withoutPassword removes a password from the error, which quotes the options.
func withoutPassword(err error, options string) error {
	if err == nil || !password.MatchString(options) {
		return err
	}
	return errors.New(password.ReplaceAllString(err.Error(), "password=********"))
}
