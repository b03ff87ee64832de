package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

func serve(peer string) {
	source := newSource()
	defer source.Close()
	id := spiffeid.RequireFromString(peer)
	config := tlsconfig.MTLSServerConfig(source, source, tlsconfig.AuthorizeID(id))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		panic(err)
	}
	say("listening", fields{"port": listener.Addr().(*net.TCPAddr).Port})
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(connection.(*tls.Conn))
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
	}
	listener.Close()
}

func answer(connection *tls.Conn) {
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		say("refused", fields{"error": err.Error()})
		return
	}
	say("peer", fields{"leaf": leaf(connection)})
	connection.Write([]byte(line))
}

func dial(port, peer string) {
	source := newSource()
	defer source.Close()
	id := spiffeid.RequireFromString(peer)
	config := tlsconfig.MTLSClientConfig(source, source, tlsconfig.AuthorizeID(id))
	say("ready", fields{})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := ask("127.0.0.1:"+port, config, lines.Text()); err != nil {
			say("refused", fields{"error": err.Error()})
		}
	}
}

func ask(address string, config *tls.Config, text string) error {
	connection, err := tls.Dial("tcp", address, config)
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintln(connection, text); err != nil {
		return err
	}
	reply, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	say("reply", fields{"text": strings.TrimSpace(reply), "leaf": leaf(connection)})
	return nil
}

func leaf(connection *tls.Conn) []byte {
	return connection.ConnectionState().PeerCertificates[0].Raw
}

func newSource() *workloadapi.X509Source {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		panic(err)
	}
	return source
}
