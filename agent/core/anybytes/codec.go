// Package anybytes lets messages carry strings that are not UTF-8: file names,
// arguments and variables need not be, but Protobuf rejects such strings.
package anybytes

import (
	"fmt"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Option is for handlers: each byte of a string that is not UTF-8 is sent as
// U+FFFD, as dockerd writes it in JSON. Without it such a message fails to
// encode.
func Option() connect.Option { return connect.WithCodec(codec{}) }

// codec is Connect's Protobuf codec, except that it replaces invalid UTF-8.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Unmarshal(data []byte, message any) error {
	known, err := messageOf(message)
	if err != nil {
		return err
	}
	return proto.Unmarshal(data, known)
}

func (c codec) Marshal(message any) ([]byte, error) { return c.MarshalAppend(nil, message) }

func (codec) MarshalAppend(to []byte, message any) ([]byte, error) {
	known, err := messageOf(message)
	if err != nil {
		return nil, err
	}
	// Encoding fails if a string is not UTF-8, so valid messages cost no extra
	// pass.
	if encoded, err := (proto.MarshalOptions{}).MarshalAppend(to, known); err == nil {
		return encoded, nil
	}
	legible := proto.Clone(known)
	makeLegible(legible.ProtoReflect())
	return proto.MarshalOptions{}.MarshalAppend(to, legible)
}

func messageOf(message any) (proto.Message, error) {
	known, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no Protobuf message", message)
	}
	return known, nil
}

// makeLegible replaces invalid UTF-8 in a message and its nested messages.
func makeLegible(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList():
			for list, at := value.List(), 0; at < list.Len(); at++ {
				if legible, changed := legibleValue(field, list.Get(at)); changed {
					list.Set(at, legible)
				}
			}
		case field.IsMap(): // Map keys in responses are names from the kernel.
		default:
			if legible, changed := legibleValue(field, value); changed {
				message.Set(field, legible)
			}
		}
		return true
	})
}

// legibleValue returns a value that can be sent, and whether it differs.
func legibleValue(field protoreflect.FieldDescriptor, value protoreflect.Value) (protoreflect.Value, bool) {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		makeLegible(value.Message())
	case protoreflect.StringKind:
		if text := value.String(); !utf8.ValidString(text) {
			return protoreflect.ValueOfString(string([]rune(text))), true
		}
	}
	return value, false
}
