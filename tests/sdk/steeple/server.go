package steeple

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.org/sdk/tape"
	bundlev1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/bundle/v1"
	svidv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/svid/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TrustDomain is that of every server here.
const TrustDomain = "example.org"

// Server is one in a directory of its own.
type Server struct {
	*Process
	Dir     string
	Address string
	Admin   *grpc.ClientConn

	t    *testing.T
	tape *tape.Tape
}

// Identity is an X.509-SVID with its key.
type Identity struct {
	Chain [][]byte
	Key   crypto.Signer
}

// Serve starts a server, with these lines in its configuration besides what each has.
func Serve(t *testing.T, tape *tape.Tape, config ...string) *Server {
	t.Helper()
	// Short, as the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("/tmp", "steeple-sdk.")
	Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, 0o755))
	s := &Server{Dir: dir, t: t, tape: tape}
	lines := []string{
		fmt.Sprintf("trust_domain = %q", TrustDomain),
		fmt.Sprintf("data_dir = %q", s.Path("server")),
		fmt.Sprintf("socket_path = %q", s.Path("admin/api.sock")),
		`bind_address = "127.0.0.1"`,
		"bind_port = 0",
		"ratelimit = { attestation = false, signing = false }",
	}
	lines = append(lines, config...) // tables come last
	s.Write("server.toml", strings.Join(lines, "\n"))
	s.Process = Start(t, "steeple-server", "run", "--config", s.Path("server.toml"))
	_, rest, _ := strings.Cut(s.WaitFor("Starting Server APIs"), "address=")
	s.Address = strings.Fields(rest)[0]
	s.Admin = Dial(t, tape, s.Path("admin/api.sock"))
	return s
}

// Dial connects to a socket on this machine.
func Dial(t *testing.T, tape *tape.Tape, socket string) *grpc.ClientConn {
	t.Helper()
	return connect(t, tape, "unix:"+socket, insecure.NewCredentials())
}

func connect(t *testing.T, tape *tape.Tape, target string, security credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	options := append(tape.DialOptions(), grpc.WithTransportCredentials(security))
	conn, err := grpc.NewClient(target, options...)
	Must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Path is that of a file in its directory.
func (s *Server) Path(name string) string {
	return filepath.Join(s.Dir, name)
}

// Write makes a file in its directory.
func (s *Server) Write(name, text string) {
	s.t.Helper()
	Must(s.t, os.WriteFile(s.Path(name), []byte(text), 0o600))
}

// Connect connects over the network: as somebody, or as nobody.
func (s *Server) Connect(identity *Identity) *grpc.ClientConn {
	s.t.Helper()
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The certificate has no DNS name, and is checked below as SPIFFE wants it.
		InsecureSkipVerify:    true,
		VerifyPeerCertificate: s.verify,
	}
	if identity != nil {
		config.Certificates = []tls.Certificate{{Certificate: identity.Chain, PrivateKey: identity.Key}}
	}
	return connect(s.t, s.tape, "passthrough:///"+s.Address, credentials.NewTLS(config))
}

// verify checks that it is the server of this trust domain.
func (s *Server) verify(raw [][]byte, _ [][]*x509.Certificate) error {
	roots := x509.NewCertPool()
	for _, root := range s.Roots() {
		roots.AddCert(root)
	}
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return err
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != ID("/spire/server") {
		return errors.New("not the server")
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// Roots are the authorities of its trust domain.
func (s *Server) Roots() []*x509.Certificate {
	bundle, err := bundlev1.NewBundleClient(s.Admin).GetBundle(context.Background(), &bundlev1.GetBundleRequest{})
	Must(s.t, err)
	var roots []*x509.Certificate
	for _, authority := range bundle.X509Authorities {
		root, err := x509.ParseCertificate(authority.Asn1)
		Must(s.t, err)
		roots = append(roots, root)
	}
	return roots
}

// Mint has an administrator make somebody an identity.
func (s *Server) Mint(path string) *Identity {
	s.t.Helper()
	key := NewKey(s.t)
	answer, err := svidv1.NewSVIDClient(s.Admin).MintX509SVID(context.Background(),
		&svidv1.MintX509SVIDRequest{Csr: CSR(s.t, key, path)})
	Must(s.t, err)
	return &Identity{Chain: answer.Svid.CertChain, Key: key}
}

// NewKey makes a key.
func NewKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(t, err)
	return key
}

// CSR asks for a certificate: for the ID with this path, or for none.
func CSR(t *testing.T, key crypto.Signer, path string, dnsNames ...string) []byte {
	t.Helper()
	request := &x509.CertificateRequest{DNSNames: dnsNames}
	if path != "" {
		uri, err := url.Parse(ID(path))
		Must(t, err)
		request.URIs = []*url.URL{uri}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, request, key)
	Must(t, err)
	return der
}

// ID is the SPIFFE ID with this path.
func ID(path string) string {
	return "spiffe://" + TrustDomain + path
}
