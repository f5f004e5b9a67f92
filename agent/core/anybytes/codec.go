// Package anybytes has messages sent that were made of any bytes. Names of files,
// arguments and variables need not be UTF-8, and a message's texts have to be.
package anybytes

import (
	"fmt"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Option is for handlers: each byte of a text that is no UTF-8 is sent as U+FFFD,
// as dockerd writes it in JSON. Without it such a message is not sent at all.
func Option() connect.Option { return connect.WithCodec(codec{}) }

// codec is Connect's own for Protobuf, but for texts that are no UTF-8.
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
	// The message itself tells, as it is written, whether all its texts are well.
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

// makeLegible replaces what is no UTF-8 in a message, and in those within it.
func makeLegible(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList():
			for list, at := value.List(), 0; at < list.Len(); at++ {
				if legible, changed := legibleValue(field, list.Get(at)); changed {
					list.Set(at, legible)
				}
			}
		case field.IsMap(): // Maps of answers have keys that the kernel names.
		default:
			if legible, changed := legibleValue(field, value); changed {
				message.Set(field, legible)
			}
		}
		return true
	})
}

// legibleValue answers a text as it can be sent, and whether that is another.
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
