// Two functions of Go that call one of C, which leaks; and C that calls Go, which calls C again.
package main

// #include "keeps.h"
// #include <stdlib.h>
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"unsafe"
)

const times = 7

//go:noinline
func keepsOrders() { C.keeps(4096) }

//go:noinline
func keepsUsers() { C.keeps(2048) }

var name *C.char

//go:noinline
func keepsNames() { name = C.CString("a name that nobody frees") }

//go:noinline
func throughC() { C.calls_go() }

//export comesBack
func comesBack() { needsRoom(64) }

// The goroutine's stack is copied to a larger place while C waits for this to come back.
//
//go:noinline
func needsRoom(depth int) byte {
	var room [1024]byte
	if depth == 0 {
		C.keeps(1024)
		return room[0]
	}
	room[depth] = needsRoom(depth - 1)
	return room[depth]
}

func stop(line string, in *bufio.Reader) {
	fmt.Println(line)
	if _, err := in.ReadByte(); err != nil {
		os.Exit(3)
	}
}

func main() {
	in := bufio.NewReader(os.Stdin)
	stop("ready", in)
	done := make(chan bool)
	go func() {
		for i := 0; i < times; i++ {
			keepsUsers()
		}
		done <- true
	}()
	<-done
	for i := 0; i < times; i++ {
		keepsOrders()
		keepsNames()
	}
	for i := 0; i < times; i++ {
		go func() {
			throughC()
			done <- true
		}()
		<-done
	}
	stop("done", in)
	C.free(unsafe.Pointer(name))
}
