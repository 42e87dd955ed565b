/* SPDX-License-Identifier: MIT */
/* A C extension of Python: the newest quote of each share, by its symbol. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "service.h"

#include <string.h>

#define HISTORY_BYTES 4000

struct quote {
	PyObject_HEAD
	double price;
	char history[HISTORY_BYTES];
};

static PyTypeObject *quote_type;
static PyObject *newest; /* symbol to quote */

KEEP_FRAME static PyObject *quote_new(double price)
{
	struct quote *quote = PyObject_New(struct quote, quote_type);

	if (!quote)
		return NULL;
	ledger_taken(sizeof(*quote));
	quote->price = price;
	memset(quote->history, 'h', sizeof(quote->history));
	KEEP_CALL();
	return (PyObject *)quote;
}

static void quote_dealloc(PyObject *quote)
{
	PyTypeObject *type = Py_TYPE(quote);

	ledger_freed(sizeof(struct quote));
	PyObject_Free(quote);
	Py_DECREF(type);
}

/* update(symbol, price): the share has a new quote. */
KEEP_FRAME static PyObject *quotes_update(PyObject *module, PyObject *arguments)
{
	PyObject *symbol;
	double price;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "Ud", &symbol, &price))
		return NULL;
	PyObject *quote = quote_new(price);
	if (!quote || PyDict_SetItem(newest, symbol, quote)) {
		Py_XDECREF(quote);
		return NULL;
	}
	KEEP_CALL();
	Py_RETURN_NONE;
}

/* open(speed, ledger), wait(rounds a second), done(): the service's rounds, as service.h has them. */
static PyObject *quotes_open(PyObject *module, PyObject *arguments)
{
	char *argv[] = {"service", NULL, NULL};

	(void)module;
	if (!PyArg_ParseTuple(arguments, "ss", &argv[1], &argv[2]))
		return NULL;
	service_open(3, argv);
	Py_RETURN_NONE;
}

static PyObject *quotes_wait(PyObject *module, PyObject *arguments)
{
	unsigned per_second;

	(void)module;
	if (!PyArg_ParseTuple(arguments, "I", &per_second))
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	service_wait(per_second);
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

static PyObject *quotes_done(PyObject *module, PyObject *unused)
{
	const size_t shares = (size_t)PyDict_Size(newest);

	(void)module, (void)unused;
	service_done(shares * sizeof(struct quote), shares, 1);
	Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
	{"update", quotes_update, METH_VARARGS, "The share has a new quote."},
	{"open", quotes_open, METH_VARARGS, "Begin the service."},
	{"wait", quotes_wait, METH_VARARGS, "Wait for the next round."},
	{"done", quotes_done, METH_NOARGS, "The round is done."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
	PyModuleDef_HEAD_INIT, .m_name = "quotes", .m_size = -1, .m_methods = functions,
};

static PyType_Slot quote_slots[] = {{Py_tp_dealloc, quote_dealloc}, {0, NULL}};

static PyType_Spec quote_spec = {
	.name = "quotes.Quote",
	.basicsize = sizeof(struct quote),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = quote_slots,
};

PyMODINIT_FUNC PyInit_quotes(void)
{
	quote_type = (PyTypeObject *)PyType_FromSpec(&quote_spec);
	newest = PyDict_New();
	return quote_type && newest ? PyModule_Create(&module_definition) : NULL;
}
