// Agent is the test's program in a virtual machine. It has three jobs:
//
//	/init            in the initrd: loads the modules that the root file system needs, mounts it, and becomes its init
//	agent            as a service: runs the commands that come from the serial port
//	agent tcp ADDR   connects standard input and output to a TCP server
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	var err error
	switch {
	case os.Getpid() == 1:
		err = initrd()
	case len(os.Args) == 3 && os.Args[1] == "tcp":
		err = relay(os.Args[2])
	default:
		err = serve("/dev/virtio-ports/run")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// relay returns when the server has closed the connection.
func relay(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, os.Stdin) // if it fails, the server has closed the connection
		_ = conn.CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, conn)
	return err
}
