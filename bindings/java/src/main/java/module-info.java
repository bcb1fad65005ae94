/** Downloads audit reports from Huawei Cloud's Database Security Service (DBSS). */
module com.example.dbss {
  // Only before Java 22.
  requires static com.sun.jna;

  exports com.example.dbss;

  // JNA looks into the class of the library.
  opens com.example.dbss.internal to
      com.sun.jna;
}
