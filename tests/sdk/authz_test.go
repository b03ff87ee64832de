package sdk

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"example.org/sdk/steeple"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Who may call what: spire.md 1.3, where nobody but these may.
const everybody = "local admin agent downstream anonymous workload foreign"

func callers(path string) string {
	service, method := path[strings.LastIndex(path[:strings.LastIndex(path, "/")], ".")+1:], path[strings.LastIndex(path, "/")+1:]
	service = strings.TrimSuffix(service, "/"+method)
	switch {
	case method == "AttestAgent", method == "GetBundle":
		return everybody
	case method == "RenewAgent", method == "PostStatus", method == "GetAuthorizedEntries", method == "SyncAuthorizedEntries",
		method == "BatchNewX509SVID", method == "NewJWTSVID", method == "BatchNewWITSVID":
		return "agent"
	case method == "GetFederatedBundle":
		return "local admin agent foreign"
	case method == "PublishJWTAuthority", method == "PublishWITAuthority", method == "NewDownstreamX509CA":
		return "downstream"
	case service == "Debug", service == "Logger":
		return "local"
	}
	return "local admin foreign"
}

// call calls a method with a request that says nothing.
func call(ctx context.Context, t *testing.T, conn *grpc.ClientConn, path string, method protoreflect.MethodDescriptor) error {
	t.Helper()
	make := func(name protoreflect.FullName) any {
		kind := must[protoreflect.MessageType](t)(protoregistry.GlobalTypes.FindMessageByName(name))
		return kind.New().Interface()
	}
	request, answer := make(method.Input().FullName()), make(method.Output().FullName())
	if !method.IsStreamingClient() && !method.IsStreamingServer() {
		return conn.Invoke(ctx, path, request, answer)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, path)
	if err != nil {
		return err
	}
	// A call that was refused already takes no message, and says so with the end of a file.
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	steeple.Must(t, stream.CloseSend())
	return stream.RecvMsg(answer)
}

func TestEachCallIsForThoseWhoMayMakeIt(t *testing.T) {
	t.Parallel()
	server := steeple.Serve(t, tried, `admin_ids = ["spiffe://example.org/configured"]`)
	admin, below := entry("/admin", "uid:1"), entry("/below", "uid:1")
	admin.Admin, below.Downstream = true, true
	create(t, server, admin, below, entry("/workload", "uid:1"))
	conns := map[string]*grpc.ClientConn{
		"local":      server.Admin,
		"admin":      server.Connect(server.Mint("/admin")),
		"foreign":    server.Connect(server.Mint("/configured")),
		"agent":      server.Connect(joined(t, server).Identity),
		"downstream": server.Connect(server.Mint("/below")),
		"workload":   server.Connect(server.Mint("/workload")),
		"anonymous":  server.Connect(nil),
	}
	for path, method := range methods() {
		if !strings.HasPrefix(path, "/spire.api.server.") {
			continue
		}
		permitted := strings.Fields(callers(path))
		for who, conn := range conns {
			code := status.Code(call(within(t), t, conn, path, method))
			switch may := slices.Contains(permitted, who); {
			case !may && strings.Join(permitted, "") == "local":
				// On the network there is no such service.
				equal(t, who+" "+path, code, codes.Unimplemented)
			case !may:
				equal(t, who+" "+path, code, codes.PermissionDenied)
			case !isServed(path):
				equal(t, who+" "+path, code, codes.Unimplemented)
			case code == codes.PermissionDenied || code == codes.Unimplemented || code == codes.Internal || code == codes.Unknown:
				t.Errorf("%s may call %s, and is told %v", who, path, code)
			}
		}
	}
}
