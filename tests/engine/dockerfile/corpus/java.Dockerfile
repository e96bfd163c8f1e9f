FROM maven:3.9-eclipse-temurin-21 AS build
WORKDIR /build
COPY pom.xml .
RUN mvn -B dependency:go-offline
COPY src src
RUN mvn -B -DskipTests package && java -Djarmode=layertools -jar target/*.jar extract --destination layers

FROM eclipse-temurin:21-jre
WORKDIR /app
COPY --from=build /build/layers/dependencies/ ./
COPY --from=build /build/layers/application/ ./
HEALTHCHECK CMD curl -f http://localhost:8080/actuator/health || exit 1
ENV JAVA_OPTS=""
ENTRYPOINT exec java $JAVA_OPTS org.springframework.boot.loader.launch.JarLauncher
