// Package tape keeps the bytes of every message that comes over a connection, as they were on the
// wire, and holds each against the published wire.
//
// It sits where gRPC hands a message to whoever decodes it: what it sees has been taken out of HTTP/2
// and TLS and is otherwise untouched.
package tape

import (
	"context"
	"sync"

	"example.org/sdk/wire"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that this wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Tape is what has come in so far.
type Tape struct {
	table *wire.Table

	mutex      sync.Mutex
	arrived    map[any][]byte
	answers    map[string]map[codes.Code]int
	messages   map[string][]proto.Message
	complaints []string
}

// New makes an empty one.
func New(table *wire.Table) *Tape {
	return &Tape{
		table:    table,
		arrived:  map[any][]byte{},
		answers:  map[string]map[codes.Code]int{},
		messages: map[string][]proto.Message{},
	}
}

// DialOptions let a client record.
func (t *Tape) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(recorder{encoding.GetCodecV2("proto"), t})),
		grpc.WithChainUnaryInterceptor(t.called),
		grpc.WithChainStreamInterceptor(t.opened),
	}
}

// ServerOptions let a server record.
func (t *Tape) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(recorder{encoding.GetCodecV2("proto"), t}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			t.received(info.FullMethod, t.rpc(info.FullMethod)[0], request, nil)
			return handler(ctx, request)
		}),
		grpc.ChainStreamInterceptor(func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(server, &incoming{stream, t, info.FullMethod})
		}),
	}
}

// Complaints is everything that was wrong with what came.
func (t *Tape) Complaints() []string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return append([]string{}, t.complaints...)
}

// Answered says how often a call had each outcome.
func (t *Tape) Answered(path string) map[codes.Code]int {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.answers[path]
}

// Messages are those that came with calls of this path.
func (t *Tape) Messages(path string) []proto.Message {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return append([]proto.Message{}, t.messages[path]...)
}

func (t *Tape) called(ctx context.Context, path string, request, answer any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, path, request, answer, conn, options...)
	t.ended(path, err)
	if err == nil {
		t.received(path, t.rpc(path)[1], answer, mask(request))
	}
	t.details(path, err)
	return err
}

func (t *Tape) opened(ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, path string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, conn, path, options...)
	return &outgoing{ClientStream: stream, tape: t, path: path}, err
}

// received checks one message, whose bytes the codec has put by.
func (t *Tape) received(path, name string, message any, mask *wire.Mask) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	bytes := t.arrived[message]
	delete(t.arrived, message)
	t.messages[path] = append(t.messages[path], proto.Clone(message.(proto.Message)))
	for _, complaint := range t.table.Check(name, bytes, mask) {
		t.complaints = append(t.complaints, path+": "+complaint)
	}
}

func (t *Tape) ended(path string, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.answers[path] == nil {
		t.answers[path] = map[codes.Code]int{}
	}
	t.answers[path][status.Code(err)]++
}

// details checks what an error carries besides its message.
func (t *Tape) details(path string, err error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, detail := range status.Convert(err).Proto().GetDetails() {
		for _, complaint := range t.table.Check(string(detail.MessageName()), detail.Value, nil) {
			t.complaints = append(t.complaints, path+" (error): "+complaint)
		}
	}
}

func (t *Tape) rpc(path string) [2]string {
	if path == "/grpc.health.v1.Health/Check" {
		return [2]string{"grpc.health.v1.HealthCheckRequest", "grpc.health.v1.HealthCheckResponse"}
	}
	return t.table.RPCs[path]
}

// mask is what a request says of the fields that it wants.
func mask(request any) *wire.Mask {
	message := request.(proto.Message).ProtoReflect()
	field := message.Descriptor().Fields().ByName("output_mask")
	if field == nil || !message.Has(field) {
		return nil
	}
	asked := map[string]bool{}
	wanted, fields := message.Get(field).Message(), field.Message().Fields()
	for i := range fields.Len() {
		asked[string(fields.Get(i).Name())] = wanted.Get(fields.Get(i)).Bool()
	}
	name := field.Message().FullName()
	return &wire.Mask{Message: string(name[:len(name)-len("Mask")]), Asked: asked}
}

// recorder is a codec that keeps what it decodes.
type recorder struct {
	encoding.CodecV2
	tape *Tape
}

func (r recorder) Unmarshal(data mem.BufferSlice, message any) error {
	r.tape.mutex.Lock()
	r.tape.arrived[message] = data.Materialize()
	r.tape.mutex.Unlock()
	return r.CodecV2.Unmarshal(data, message)
}

// incoming is the stream of a client to us.
type incoming struct {
	grpc.ServerStream
	tape *Tape
	path string
}

func (i *incoming) RecvMsg(message any) error {
	err := i.ServerStream.RecvMsg(message)
	if err == nil {
		i.tape.received(i.path, i.tape.rpc(i.path)[0], message, nil)
	}
	return err
}

// outgoing is our stream to a server.
type outgoing struct {
	grpc.ClientStream
	tape    *Tape
	path    string
	mask    *wire.Mask
	counted bool
}

func (o *outgoing) SendMsg(message any) error {
	if found := mask(message); found != nil {
		o.mask = found
	}
	return o.ClientStream.SendMsg(message)
}

func (o *outgoing) RecvMsg(message any) error {
	err := o.ClientStream.RecvMsg(message)
	if err == nil {
		o.tape.received(o.path, o.tape.rpc(o.path)[1], message, o.mask)
	} else {
		o.tape.details(o.path, err)
	}
	if !o.counted {
		o.tape.ended(o.path, err)
		o.counted = true
	}
	return err
}
